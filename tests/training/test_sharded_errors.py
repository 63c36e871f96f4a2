"""Sharded growth that must not pass: what is refused, a part in the wrong place, an error on one rank, which
ends all of them; and how much a rank holds at once."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Adafactor, AdamW

import growth
from growth.errors import CheckpointError, GrowthError, IllegalGrowthError, ProofError, UnsupportedModelError
from growth.hf import dtensors
from growth.proof.twin import TwinReport
from growth.training import clip_factor, moments, resume, sharded, train_new_only
from growth.training import model as growth_model
from support import shardings
from support.optimizers import no_twin
from support.ranks import llama, needs_fork, on_ranks, pair, steps

__all__ = ["no_twin"]  # a fixture for every test here
pytestmark = [needs_fork, pytest.mark.filterwarnings("ignore::UserWarning:torch", "ignore::FutureWarning")]

FSDP = shardings.fsdp()


def _small(**sizes: Any) -> Any:
    FSDP(model := llama(**sizes))
    return model


def _refused(says: str, kind: type[GrowthError] = UnsupportedModelError, model: Any = None, **given: Any) -> None:
    with pytest.raises(kind, match=says):
        growth.widen(_small() if model is None else model, **{"width": 2, "shard": FSDP, **given})


def _what_is_refused() -> None:
    _refused(r"FSDPLlamaForCausalLM is sharded .* growth.widen\(model, shard=function of a model\)", shard=None)
    shardings.tensor_parallel(parallel := llama())
    _refused(r"this LlamaForCausalLM is sharded", model=parallel, shard=None)
    _refused(r"must be a function that shards a model in place, not str. Give", IllegalGrowthError, shard="fsdp")
    _refused(r"left every parameter as it was. It must shard", shard=lambda model: model)
    _refused(r"returned another object \(Sequential\). It must shard", shard=lambda model: nn.Sequential(model))
    _refused(
        r"failed on the model built anew \(NotImplementedError: .*no data yet", shard=lambda model: model.to("cpu")
    )
    _refused(r"parts 'lm_head.weight' and 'model.embed_tokens.weight', which are tied", shard=_parted)
    _refused(r"Widen its .module, on every rank", model=DistributedDataParallel(llama()))
    _refused(  # three heads for keys, on two ranks
        r"the grown LlamaForCausalLM cannot be run on .* \(or sharding\)",
        model=parallel,
        shard=shardings.tensor_parallel,
        width=1.5,
    )
    shardings.checkpointed(wrapped := llama())
    _refused(r"wraps 'model.layers.0' of this LlamaForCausalLM, and shard\(model\) wraps nothing. Wrap", model=wrapped)
    cpu = torch.device("cpu")
    _refused(
        r"FullyShardedDataParallel. Save a full .* Models of fully_shard grow as they are",
        model=FullyShardedDataParallel(llama(), device_id=cpu),
    )
    model = _small()
    _refused(
        r"Adafactor stores means over rows and columns, which cannot grow while 'model.embed_\S+' is sharded. Use",
        model=model,
        optimizer=Adafactor(model.parameters()),
    )
    assert growth.widen(model, width=2, shard=FSDP, optimizer=Adafactor(model.parameters()), moments="reset").optimizer
    model.model.layers[0].mlp.act_fn = nn.GELU()
    _refused(r"does not compute what its config says: its \S+ differ by", model=model)
    grown = growth.widen(_small(), width=2, shard=FSDP)
    with pytest.raises(UnsupportedModelError, match=r"is sharded .* Training the new coordinates alone is not for"):
        train_new_only(grown)


def _parted(model: Any) -> None:
    FSDP(model)
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())


def test_what_is_refused(tmp_path: Path) -> None:
    on_ranks(tmp_path, _what_is_refused)


def test_no_process_group() -> None:
    _refused(r"there is no process group. Call", IllegalGrowthError, model=llama())


def _around_growth() -> None:
    """The methods of what is returned, a second growth, and one after a run without a backward pass."""
    model = _small()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    before = steps(model, optimizer, range(1))
    assert str(growth.plan_widening(model, width=2)) == str(growth.plan_widening(llama(), width=2))
    with torch.no_grad():
        model.eval()(torch.arange(5)[None])
    grown = growth.widen(model, width=2, noise=0.5, optimizer=optimizer, shard=FSDP)
    ids = torch.arange(9)[None]
    model(input_ids=ids, labels=ids).loss.backward()
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    gathered = {name: dtensors.whole(gradient) for name, gradient in gradients.items()}
    assert clip_factor(grown, gradients) == pytest.approx(clip_factor(grown, gathered), rel=1e-12)
    optimizer.zero_grad()
    assert all(isinstance(value, DTensor) for each in (model, grown.model) for value in each.parameters())
    assert type(grown.model) is type(model) and not grown.model.training
    single = growth.widen(llama(), width=2)
    masks, wanted = grown.new_coordinates(), single.new_coordinates()
    assert masks.keys() == wanted.keys() and all(torch.equal(masks[name], wanted[name]) for name in masks)
    assert grown.config.hidden_size == 48 and "hidden_size              24      48" in str(grown)
    assert grown.optimizer is not None
    fresh = AdamW(grown.model.parameters(), lr=1e-3)
    resumed, _ = resume(grown.model, fresh, grown.optimizer.state_dict())
    assert [group["lr"] for group in resumed.param_groups] == [group["lr"] for group in grown.optimizer.param_groups]
    again = growth.widen(grown.model, width=2, optimizer=grown.optimizer, shard=FSDP)
    assert again.config.hidden_size == 96
    assert steps(model, optimizer, range(1, 2)) != before  # the small model goes on
    state = grown.model.state_dict()
    assert all(isinstance(value, DTensor) for value in state.values())


def test_around_growth(tmp_path: Path) -> None:
    on_ranks(tmp_path, _around_growth)


def _rolled(target: Tensor, value: Tensor) -> None:
    """Write the part of a rank whose first row is one off."""
    dtensors.put(target, value.roll(1, 0))


def _misplaced_weights() -> None:
    with patch.object(sharded, "put", _rolled):
        _refused(r"the parts of 'model.embed_tokens.weight' on all ranks are not the grown tensor", ProofError)
        with patch.object(sharded.Sharded, "_read_back"):
            _refused(r"the grown LlamaForCausalLM does not compute what the small one does", ProofError)


def _misplaced_state() -> None:
    def rolled(value: Tensor, like: Tensor) -> Tensor:
        return dtensors.spread_like(value.roll(1, 0) if dtensors.is_spread(like) else value, like)

    with patch.object(moments, "spread_like", rolled):
        found = pair(llama, FSDP, {"width": 2}).differences
    if not distributed.get_rank():
        assert len(found) > 30 and all(said.startswith("exp_avg") for said in found)


@pytest.mark.parametrize("what", [_misplaced_weights, _misplaced_state], ids=["weights", "state"])
def test_a_part_that_is_one_row_off(what: Callable[[], None], tmp_path: Path) -> None:
    on_ranks(tmp_path, what)


def _written(target: Tensor, value: Tensor) -> None:
    raise OSError("no memory left")


def _twin(plan: Any) -> TwinReport:
    raise ProofError("the twin is off. Please report this.")


def _sharded_by_one(model: nn.Module) -> None:
    raise ValueError("no such mesh")


def _doubled(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
    return 2 * output


def _alone(error: type[Exception], says: str, **given: Any) -> None:
    """What happens where rank 1 alone has an error, and where rank 0 is told of it."""
    mine = distributed.get_rank() == 1
    with pytest.raises(error if mine else GrowthError) as caught:
        growth.widen(_small(), **{"width": 2, "shard": FSDP, **given})
    if not mine:
        assert str(caught.value).startswith("rank 1 stopped, and so did all: ")
    assert says in str(caught.value)
    if issubclass(error, GrowthError):
        assert type(caught.value) is error


def _errors_on_one_rank() -> None:
    second = distributed.get_rank() == 1
    with patch.object(sharded, "put", _written if second else dtensors.put):
        _alone(OSError, "no memory left")
    with patch.object(growth_model, "prove_twin", _twin if second else lambda plan: TwinReport(0.0, 1.0, {})):
        _alone(ProofError, "the twin is off")
    _alone(UnsupportedModelError, "no such mesh", shard=_sharded_by_one if second else FSDP)
    for choice in ({"width": 2 + second}, {"seed": int(second)}, {"moments": "reset" if second else "fresh"}):
        _refused(
            r"the ranks do not do the same: rank 0 'widen a .* Call growth.widen on every rank", GrowthError, **choice
        )
    with torch.no_grad():
        (other := llama()).model.norm.weight[int(second)] = 1.5
    _refused(r"the ranks do not do the same: rank 0 'gather model.norm.weight .* every rank", GrowthError, model=other)
    model = _small()
    if second:
        model.model.layers[0].mlp.up_proj.register_forward_hook(_doubled)
    with pytest.raises(GrowthError):
        growth.widen(model, width=2, shard=FSDP)
    model = _small()
    if second:
        model.model.layers[0].mlp.up_proj.weight.detach().to_local()[0, 0] = torch.nan
    _refused("NaN", CheckpointError, model=model)


def test_an_error_on_one_rank_ends_all(tmp_path: Path) -> None:
    on_ranks(tmp_path, _errors_on_one_rank, limit=60)


class Held:
    """How many whole parameters a rank holds at once while a model grows, at most.

    Args:
        shapes: of the old and the grown parameters, matrices only.
    """

    def __init__(self, shapes: set[tuple[int, ...]]) -> None:
        self.most, self.shapes = 0, shapes

    def look(self) -> None:
        whole = {
            each.untyped_storage().data_ptr()
            for each in gc.get_objects()
            if type(each) in (Tensor, nn.Parameter) and each.device.type == "cpu" and each.shape in self.shapes
        }
        self.most = max(self.most, len(whole - {0}))


def _whole_parameters(layers: int, hoarding: bool) -> int:
    """How many whole matrices a rank held at once."""
    model, kept = _small(layers=layers), []
    wide = growth.plan_widening(model, width=2)
    shapes = {
        shape for tensor in wide.tensors.values() for shape in (tensor.shape, tensor.new_shape) if len(shape) == 2
    }
    held = Held(shapes)

    def whole(value: Tensor) -> Tensor:
        found = dtensors.whole(value)
        if hoarding:
            kept.append(found)
        held.look()
        return found

    def put(target: Tensor, value: Tensor) -> None:
        dtensors.put(target, value)
        held.look()

    gc.collect()
    with patch.multiple(sharded, whole=whole, put=put):
        growth.widen(model, width=2, shard=FSDP)
    return held.most


@pytest.mark.slow
def test_a_rank_holds_one_whole_parameter_at_a_time(tmp_path: Path) -> None:
    """Old, grown, and the grown one as read back: two of them at once. Of three ranks none has a part of the
    shape of a whole parameter."""
    assert on_ranks(tmp_path, _whole_parameters, 2, False, ranks=3) == [2, 2, 2]
    assert min(on_ranks(tmp_path, _whole_parameters, 2, True, ranks=3)) > 20
