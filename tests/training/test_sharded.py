"""A sharded model grows into what one process grows it into, bit for bit: weights, optimizer, settings.
The next losses are equal too, within 1e-6: FSDP adds up the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.optim import SGD, Adagrad, AdamW, NAdam, Optimizer, RMSprop
from torch.optim.lr_scheduler import CosineAnnealingLR

import growth
from growth.hf.dtensors import whole
from growth.training.model import Grown
from support import shardings
from support.optimizers import no_twin
from support.own_models import GPT, GPTConfig
from support.ranks import gpt2, llama, mixtral, needs_fork, on_ranks, pair, steps

__all__ = ["no_twin"]  # a fixture for every test here
pytestmark = [needs_fork, pytest.mark.filterwarnings("ignore::UserWarning:torch", "ignore::FutureWarning:torch")]

untied = partial(llama, tied=False)
DOUBLED: dict[str, Any] = {"width": 2, "noise": 1.0}

SHARDED: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "tied": (llama, shardings.fsdp(), DOUBLED),
    "untied": (untied, shardings.fsdp(), {"width": 1.5}),
    "split": (llama, shardings.fsdp(), {"width": 2, "symmetry": "split"}),
    "experts in one parameter": (mixtral, shardings.fsdp(), DOUBLED),
    "transposed": (gpt2, shardings.fsdp(), DOUBLED),
    "two dimensions": (llama, shardings.hsdp(), DOUBLED),
    "tensor parallel": (untied, shardings.tensor_parallel, DOUBLED),
    "both": (llama, shardings.both(), DOUBLED),
    "offloaded": (untied, shardings.offloaded, DOUBLED),
    "uneven sizes": (llama, shardings.fsdp(), {"hidden_size": 40, "noise": 0.5}),
    "checkpoint wrappers": (llama, shardings.checkpointed, DOUBLED),
    "deeper": (llama, shardings.fsdp(), {"layers": 3, "width": 2}),
}


def _grown(make: Any, shard: Any, choices: dict[str, Any], near: float = 1e-6, **options: Any) -> Grown[Any]:
    grown = pair(make, shard, choices, **options)
    assert grown.differences == []
    assert grown.sharded.optimizer is not None
    losses = steps(grown.sharded.model, grown.sharded.optimizer, range(2, 4))
    assert grown.sharded.proof.run is not None and grown.sharded.proof.run.own == 0
    if grown.single is not None and grown.single.optimizer is not None:
        assert losses == pytest.approx(steps(grown.single.model, grown.single.optimizer, range(2, 4)), rel=near)
    return grown.sharded


def _grows(*arguments: Any, **options: Any) -> None:
    _grown(*arguments, **options)


SELDOM = (
    "split",
    "two dimensions",
    "transposed",
    "both",
    "checkpoint wrappers",
    "experts in one parameter",
    "offloaded",
    "uneven sizes",
    "tensor parallel",
    "deeper",
)


@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.slow] * (case in SELDOM)) for case in SHARDED])
def test_it_is_what_one_process_grows(case: str, tmp_path: Path) -> None:
    on_ranks(tmp_path, _grows, *SHARDED[case])


@pytest.mark.slow
def test_rows_that_three_ranks_do_not_share_evenly(tmp_path: Path) -> None:
    on_ranks(tmp_path, _grows, partial(llama, hidden=40), shardings.fsdp(), {"width": 1.5}, ranks=3)


def test_it_computes_in_the_precision_of_its_policy(tmp_path: Path) -> None:
    on_ranks(tmp_path, _grows_in_half)


def _grows_in_half() -> None:
    run = _grown(llama, shardings.half, DOUBLED, 1e-2).proof.run
    assert run is not None and run.dtype == "bfloat16"


def _sharded_in_another_way(first: Any, shard: Any) -> None:
    _grows(untied, shard, DOUBLED, first=first)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "shard"),
    [
        (lambda model: None, shardings.both()),
        (shardings.fsdp(), shardings.emptied),
        pytest.param(shardings.tensor_parallel, shardings.both(), marks=pytest.mark.slow),
    ],
    ids=["not at all before", "and given room", "by tensors before"],
)
def test_the_wider_model_may_be_sharded_in_another_way(first: Any, shard: Any, tmp_path: Path) -> None:
    on_ranks(tmp_path, _sharded_in_another_way, first, shard)


def _groups(parameters: list[nn.Parameter]) -> Optimizer:
    matrices = [value for value in parameters if value.ndim > 1]
    vectors = [value for value in parameters if value.ndim < 2]
    return AdamW([{"params": matrices}, {"params": vectors, "weight_decay": 0.0, "lr": 3e-4}], lr=1e-3, amsgrad=True)


def _lived_in(model: Any) -> None:
    model.config.use_cache = False
    getattr(
        model, "activation_checkpointing_enable", model.gradient_checkpointing_enable
    )()  # renamed in transformers 5
    model.model.layers[0].eval()
    model.model.norm.weight.requires_grad_(False)
    model.generation_config.max_length = 77


def _kept(moments: str, hyper: str) -> None:
    choices = {**DOUBLED, "moments": moments, "hyper": hyper}
    schedule = partial(CosineAnnealingLR, T_max=10, eta_min=1e-5)
    _grows(llama, shardings.fsdp(), choices, optimizer=_groups, before=_lived_in, scheduler=schedule)


@pytest.mark.parametrize(
    ("moments", "hyper"),
    [
        ("preserve", "preserve"),
        pytest.param("fresh", "keep", marks=pytest.mark.slow),
        pytest.param("reset", "preserve", marks=pytest.mark.slow),
    ],
)
def test_the_callers_settings_are_kept(moments: str, hyper: str, tmp_path: Path) -> None:
    on_ranks(tmp_path, _kept, moments, hyper)


OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], Optimizer]] = {
    "SGD": partial(SGD, lr=1e-2, momentum=0.9),
    "Adagrad": partial(Adagrad, lr=1e-2, initial_accumulator_value=0.1),
    "RMSprop": partial(RMSprop, lr=1e-3, momentum=0.9, centered=True),
    "NAdam": partial(NAdam, lr=1e-3),
}


def _trained_by(name: str) -> None:
    _grows(llama, shardings.fsdp(), DOUBLED, optimizer=OPTIMIZERS[name])


@pytest.mark.parametrize("name", ["SGD", *(pytest.param(each, marks=pytest.mark.slow) for each in [*OPTIMIZERS][1:])])
def test_the_state_of_other_optimizers(name: str, tmp_path: Path) -> None:
    on_ranks(tmp_path, _trained_by, name)


MANY = {"replicated": shardings.hsdp(2), "both": shardings.both(2)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "choices"),
    [
        *(("replicated", choices) for choices in (DOUBLED, {"width": 1.5}, {"experts": 8}, {"kv_heads": 4})),
        *(("both", choices) for choices in (DOUBLED, {"kv_heads": 4})),
    ],
    ids=str,
)
def test_four_ranks(how: str, choices: dict[str, Any], tmp_path: Path) -> None:
    make = mixtral if "experts" in choices else llama
    on_ranks(tmp_path, _grows, make, MANY[how], choices, ranks=4)


def _own() -> None:
    """A module that nobody registered."""

    def shard(model: Any) -> None:
        mesh = init_device_mesh("cpu", (2,))
        for layer in model.transformer.h:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)

    torch.manual_seed(0)
    model, alone = GPT(GPTConfig()), GPT(GPTConfig())
    alone.load_state_dict(model.state_dict())
    shard(model)
    grown, single = growth.widen(model, shard=shard, **DOUBLED), growth.widen(alone, **DOUBLED)
    assert grown.config == single.config and type(grown.model) is type(model)
    wanted = dict(single.model.named_parameters())
    assert all(torch.equal(whole(value.detach()), wanted[name]) for name, value in grown.model.named_parameters())
    assert growth.widen(grown.model, width=2, shard=shard).config.n_embd == 96


@pytest.mark.slow
def test_a_module_of_the_callers_own(tmp_path: Path) -> None:
    on_ranks(tmp_path, _own)


def _accelerated() -> None:
    """As the page on training says. accelerate takes FSDP on accelerators alone, so it is told that it does."""
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["LlamaDecoderLayer"],
        cpu_ram_efficient_loading=False,
    )
    accelerator = Accelerator(cpu=True, fsdp_plugin=plugin)
    for state in (AcceleratorState, PartialState):
        state._shared_state["distributed_type"] = DistributedType.FSDP
    AcceleratorState._shared_state["fsdp_plugin"] = plugin
    model = llama()
    model, optimizer = accelerator.prepare(model, AdamW(model.parameters(), lr=1e-3))
    steps(model, optimizer, range(2))
    grown = growth.widen(
        model,
        width=2,
        symmetry="none",
        optimizer=optimizer.optimizer,
        shard=lambda wide: fsdp2_prepare_model(accelerator, wide),
    )
    assert type(grown.model) is type(model) and grown.proof.run is not None and grown.proof.run.own == 0
    prepared = accelerator.prepare_optimizer(grown.optimizer)
    assert steps(grown.model, prepared, range(2, 4)) == pytest.approx(steps(model, optimizer, range(2, 4)), rel=1e-5)


@pytest.mark.slow
def test_what_accelerate_shards(tmp_path: Path) -> None:
    on_ranks(tmp_path, _accelerated)
