"""Growth on several ranks: processes of gloo on the CPU, and the same growth in one process beside it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import AdamW, Optimizer
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

import growth
from growth.hf.dtensors import whole
from growth.hf.inner_names import modules_of, parameters_of
from growth.training.model import Grown

needs_fork = pytest.mark.skipif(
    sys.platform == "win32" or torch.cuda.is_available(), reason="the ranks are forked, which CUDA does not allow"
)


def _rank(rank: int, function: Callable[..., Any], ranks: int, folder: Path, arguments: tuple[Any, ...]) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=ranks)
    try:
        said = function(*arguments)
        torch.save(said, folder / f"{rank}.pt")
        distributed.barrier()  # neither closes its connections while another still needs them
    finally:
        distributed.destroy_process_group()


def on_ranks(folder: Path, function: Callable[..., Any], *arguments: Any, ranks: int = 2, limit: float = 120) -> Any:
    """Call a function on every rank, forked from this process.

    Returns:
        What it returned, by rank.

    Raises:
        Failed: the ranks have not ended after ``limit`` seconds.
    """
    (home := folder / f"{time.monotonic_ns()}").mkdir()
    running = multiprocessing.start_processes(  # type: ignore[attr-defined]
        _rank, (function, ranks, home, arguments), nprocs=ranks, join=False, start_method="fork"
    )
    deadline = time.monotonic() + limit
    while not running.join(timeout=1):
        if time.monotonic() > deadline:
            for process in running.processes:
                process.kill()
            pytest.fail("the ranks wait for each other")
    return [torch.load(home / f"{rank}.pt", weights_only=False) for rank in range(ranks)]


def llama(tied: bool = True, layers: int = 2, hidden: int = 24, **changes: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6, "intermediate_size": 20}
    config = LlamaConfig(
        vocab_size=33, hidden_size=hidden, num_hidden_layers=layers, tie_word_embeddings=tied, **{**sizes, **changes}
    )
    return LlamaForCausalLM(config)


def mixtral() -> MixtralForCausalLM:
    torch.manual_seed(0)
    sizes = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32}
    config = MixtralConfig(vocab_size=33, hidden_size=24, num_local_experts=4, num_experts_per_tok=2, **sizes)
    return MixtralForCausalLM(config)


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    still = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=33, n_embd=24, n_layer=2, n_head=4, n_positions=16, **still, **ends))


def steps(model: nn.Module, optimizer: Optimizer, numbers: range) -> list[float]:
    """The losses of some steps; every rank has the same batch."""
    losses = []
    for number in numbers:
        ids = torch.randint(0, 33, (2, 9), generator=torch.Generator().manual_seed(number))
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


@dataclass
class Pair:
    """The same growth on all ranks and, on rank 0, in one process; and in what they differ."""

    sharded: Grown[Any]
    single: Grown[Any] | None = None
    differences: list[str] = field(default_factory=list)


def pair(
    make: Callable[[], Any],
    shard: Callable[[nn.Module], Any],
    choices: Mapping[str, Any],
    *,
    first: Callable[[nn.Module], Any] | None = None,
    optimizer: Callable[[list[nn.Parameter]], Optimizer] = lambda parameters: AdamW(parameters, lr=1e-3),
    before: Callable[[nn.Module], None] = lambda model: None,
    scheduler: Callable[[Optimizer], Any] = lambda optimizer: None,
) -> Pair:
    """Train a sharded model for two steps, grow it, and grow the same in one process; then compare
    all that growth returned, bit for bit.

    Args:
        make: the model.
        shard: as growth gets it.
        choices: of the growth.
        first: how the small model is sharded; by default likewise.
        optimizer: of its parameters.
        before: what is done to both models before they are sharded.
        scheduler: of the optimizer.
    """
    small, alone = make(), make()
    for each in (small, alone):
        before(each)
    (first or shard)(small)
    of_small, of_alone = (optimizer(list(each.parameters())) for each in (small, alone))
    steps(small, of_small, range(2))
    options = StateDictOptions(full_state_dict=True)  # on rank 0 alone
    weights = get_model_state_dict(small, options=options)
    trained = get_optimizer_state_dict(small, of_small, options=options)
    found = growth.widen(small, optimizer=of_small, scheduler=scheduler(of_small), shard=shard, **choices)
    gathered = Gathered.of(found)
    if distributed.get_rank():
        return Pair(found)
    alone.load_state_dict({name: value.clone() for name, value in weights.items()})
    alone.tie_weights()
    set_optimizer_state_dict(alone, of_alone, trained)
    wanted = growth.widen(alone, optimizer=of_alone, scheduler=scheduler(of_alone), **choices)
    return Pair(found, wanted, list(differences(found, gathered, wanted)))


@dataclass
class Gathered:
    """What the ranks hold in parts: weights, buffers and states of the optimizer, by the names of parameters."""

    weights: dict[str, Tensor]
    buffers: list[Tensor]
    states: dict[str, dict[str, Any]]

    @classmethod
    def of(cls, grown: Grown[Any]) -> Gathered:
        assert grown.optimizer is not None
        parameters, state = parameters_of(grown.model), grown.optimizer.state
        return cls(
            {name: whole(value.detach()) for name, value in parameters.items()},
            [whole(value) for value in grown.model.buffers()],
            {
                name: {
                    key: whole(entry) if isinstance(entry, Tensor) else entry for key, entry in state[value].items()
                }
                for name, value in parameters.items()
            },
        )


def differences(found: Grown[Any], gathered: Gathered, wanted: Grown[Any]) -> Any:
    """In what two growths of one model differ."""
    parameters = dict(wanted.model.named_parameters())
    names = [{id(value): name for name, value in parameters_of(each.model).items()} for each in (found, wanted)]
    if gathered.weights.keys() != parameters.keys():
        yield f"parameters {gathered.weights.keys() ^ parameters.keys()}"
    yield from (f"weight {n}" for n, value in gathered.weights.items() if not torch.equal(value, parameters[n]))
    for (name, value), other in zip(wanted.model.named_buffers(), gathered.buffers, strict=True):
        if not torch.equal(value, other):
            yield f"buffer {name}"
    if (found.uneven, found.born, str(found.plan), found.config.to_dict()) != (
        wanted.uneven,
        wanted.born,
        str(wanted.plan),
        wanted.config.to_dict(),
    ):
        yield "reports"
    if found.proof.fold.to_json() != wanted.proof.fold.to_json():  # its sums are in another order
        yield f"fold {found.proof.fold} {wanted.proof.fold}"
    for said, one, other in (
        (
            "requires_grad",
            *({n: p.requires_grad for n, p in parameters_of(each.model).items()} for each in (found, wanted)),
        ),
        ("modes", *({n: m.training for n, m in modules_of(each.model).items()} for each in (found, wanted))),
        ("checkpointing", *(_checkpointed(each.model) for each in (found, wanted))),
        ("generation", *(each.model.generation_config.to_dict() for each in (found, wanted))),
        ("schedule", *(each.scheduler and each.scheduler.state_dict() for each in (found, wanted))),
    ):
        if one != other:
            yield f"{said} {one} {other}"
    assert found.optimizer is not None and wanted.optimizer is not None
    groups = [
        [{**group, "params": [called[id(value)] for value in group["params"]]} for group in each.param_groups]
        for each, called in zip((found.optimizer, wanted.optimizer), names, strict=True)
    ]
    if groups[0] != groups[1]:
        yield f"groups {groups}"
    for name, state in gathered.states.items():
        expected = wanted.optimizer.state[parameters[name]]
        if state.keys() != expected.keys():
            yield f"states of {name}: {state.keys() ^ expected.keys()}"
        yield from (f"{key} of {name}" for key, entry in state.items() if not _same(entry, expected[key]))


def _checkpointed(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if getattr(module, "gradient_checkpointing", False)]


def _same(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) else bool(one == other)
