"""Training on a device goes on after growth: fused AdamW with its state and settings, `torch.compile`, autocast, and
shards of one process."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import AdamW

import growth
from growth.proof.float64 import exact_arithmetic
from growth.proof.rounding import ORDER
from support.devices import DEVICES, differing, on_cpu
from support.optimizers import by_name, llama, no_twin
from support.trajectories import SAME

__all__ = ["no_twin"]  # a fixture for every test here
pytestmark = pytest.mark.filterwarnings("default")  # what torch warns of on a GPU is not known beforehand

DTYPES = (torch.float32, torch.bfloat16)
SETTINGS: dict[str, Any] = {"lr": 1e-2, "betas": (0.8, 0.95), "weight_decay": 0.2, "fused": True}


def furthest(one: torch.Tensor, other: torch.Tensor) -> float:
    """max |difference|, beside the largest of one."""
    return float((one - other).abs().max() / one.abs().max())


def tokens(device: str, number: int) -> torch.Tensor:
    return torch.randint(0, 32, (2, 9), generator=torch.Generator().manual_seed(number)).to(device)


def train(model: Any, optimizer: AdamW, device: str, steps: int = 2, first: int = 0) -> list[float]:
    """The loss before each step."""
    losses = []
    for number in range(first, first + steps):
        ids = tokens(device, number)
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def trained(device: str, dtype: torch.dtype, **settings: Any) -> tuple[Any, AdamW]:
    """A tiny Llama after two steps of fused AdamW."""
    model = llama(tied=False).to(device, dtype)  # type: ignore[arg-type]
    optimizer = AdamW(model.parameters(), **{**SETTINGS, **settings})
    train(model, optimizer, device)
    return model, optimizer


def beside(model: Any, optimizer: AdamW) -> tuple[Any, AdamW]:
    """The same model and optimizer, on the CPU."""
    copied = on_cpu(model)
    other = AdamW(copied.parameters(), **SETTINGS)
    other.load_state_dict(optimizer.state_dict())
    return copied, other


def flat(states: Any) -> dict[str, Any]:
    """``name.key`` -> value."""
    return {f"{name}.{key}": value for name, state in states.items() for key, value in state.items()}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [2, 1.5])
@pytest.mark.parametrize("device", DEVICES)
def test_fused_adamw_grows_as_on_the_cpu_and_goes_on(device: str, width: float, dtype: torch.dtype) -> None:
    model, optimizer = trained(device, dtype)
    grown = growth.widen(model, width=width, noise=1, optimizer=optimizer)
    new = grown.optimizer
    assert type(new) is AdamW and new.defaults == optimizer.defaults
    for group in new.param_groups:
        assert (group["fused"], group["betas"]) == (True, (0.8, 0.95)) and group["weight_decay"] > 0
    old, states = by_name(model, optimizer), by_name(grown.model, new)
    assert states.keys() == old.keys() == dict(grown.model.named_parameters()).keys()
    for name, state in states.items():
        assert {key: value.device for key, value in state.items()} == {
            key: value.device for key, value in old[name].items()
        }
        assert float(state["step"]) == 2 and state["exp_avg"].shape == grown.model.get_parameter(name).shape
    copied, other = beside(model, optimizer)
    also = growth.widen(copied, width=width, noise=1, optimizer=other)
    assert also.optimizer is not None
    assert differing(grown.model.state_dict(), also.model.state_dict()) == []
    assert differing(flat(states), flat(by_name(also.model, also.optimizer))) == []
    fresh = growth.widen(copied, width=width, noise=1, optimizer=other, moments="fresh")
    assert fresh.optimizer is not None and differing(flat(states), flat(by_name(fresh.model, fresh.optimizer)))
    before = {name: value.detach().clone() for name, value in grown.model.named_parameters()}
    losses = train(grown.model, new, device, 3, first=2)
    assert all(map(torch.isfinite, torch.tensor(losses)))
    unmoved = [name for name, value in grown.model.named_parameters() if torch.equal(value, before[name])]
    assert unmoved == []


@pytest.mark.parametrize("device", DEVICES)
def test_fused_adamw_trains_on_exactly(device: str) -> None:
    with exact_arithmetic():
        model, optimizer = trained(device, torch.float64, eps=1e-4)
        grown = growth.widen(model, width=2, symmetry="none", optimizer=optimizer)
        assert grown.optimizer is not None and not grown.uneven and not grown.born
        one, other = train(model, optimizer, device, 8), train(grown.model, grown.optimizer, device, 8)
        apart = [abs(before - after) / before for before, after in zip(one, other, strict=True)]
        assert max(apart) <= SAME and max(one) - min(one) > 1e-3
        for group in grown.optimizer.param_groups:
            group["lr"] *= 1.001  # a wrong setting shows
        wrong = zip(train(model, optimizer, device, 8), train(grown.model, grown.optimizer, device, 8), strict=True)
        assert max(abs(before - after) / before for before, after in wrong) > SAME


@pytest.mark.parametrize("device", DEVICES)
def test_a_grown_model_compiles_and_trains(device: str) -> None:
    model, optimizer = trained(device, torch.float32)
    grown = growth.widen(torch.compile(model), width=2, symmetry="none", optimizer=optimizer)
    assert type(grown.model) is type(model) and grown.optimizer is not None
    compiled: Any = torch.compile(grown.model)
    ids = tokens(device, 7)
    with torch.no_grad():
        small, wide = model(ids).logits, compiled(ids).logits
    assert furthest(small, wide) <= 1e-5
    one, other = train(model, optimizer, device, 4), train(compiled, grown.optimizer, device, 4)
    assert other == pytest.approx(one, rel=1e-4)
    with torch.no_grad():
        grown.model.model.layers[0].mlp.down_proj.weight *= 1.1  # a wrong weight shows
        assert furthest(model(ids).logits, compiled(ids).logits) > 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("device", DEVICES)
def test_a_grown_model_trains_under_autocast(device: str, dtype: torch.dtype) -> None:
    """With the scaling of gradients that float16 needs."""
    model, optimizer = trained(device, torch.float32)
    grown = growth.widen(model, width=2, noise=1, optimizer=optimizer)
    ids, assigned = tokens(device, 5), grown.optimizer
    assert assigned is not None

    def run(each: Any) -> torch.Tensor:
        with torch.autocast(device, dtype), torch.no_grad():
            logits: torch.Tensor = each(ids).logits.float()
        return logits

    rounding = furthest(model(ids).logits.detach(), run(model))
    assert 0 < furthest(run(model), run(grown.model)) <= ORDER * rounding < 0.2
    scaler = torch.amp.GradScaler(device, init_scale=1024.0, enabled=dtype == torch.float16)
    before = {name: value.detach().clone() for name, value in grown.model.named_parameters()}
    assigned.zero_grad()
    with torch.autocast(device, dtype):
        loss = grown.model(input_ids=ids, labels=ids).loss
    scaler.scale(loss).backward()
    scaler.step(assigned)
    scaler.update()
    for name, value in grown.model.named_parameters():
        assert value.dtype == torch.float32 and value.isfinite().all() and not torch.equal(value, before[name]), name
    grown.model.load_state_dict(before)
    with torch.no_grad():
        grown.model.lm_head.weight *= 1.1  # a wrong weight shows
    assert furthest(run(model), run(grown.model)) > ORDER * rounding


@pytest.fixture
def alone(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A process group of one, by the backend of the device."""
    device: str = request.param
    backend = {"cpu": "gloo", "cuda": "nccl"}[device]
    if device == "cuda":
        torch.cuda.set_device(0)
    distributed.init_process_group(backend, init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield device
    distributed.destroy_process_group()


def whole(value: Any) -> Any:
    return value.full_tensor() if isinstance(value, DTensor) else value


@pytest.mark.parametrize("width", [2, 1.5])
@pytest.mark.parametrize("alone", DEVICES, indirect=True)
def test_shards_grow_in_place(alone: str, width: float) -> None:
    mesh = init_device_mesh(alone, (1,))

    def shard(model: Any) -> None:
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)

    model, sharded = (llama(tied=False).to(alone) for _ in range(2))  # type: ignore[arg-type]
    shard(sharded)
    optimizer, its = (AdamW(each.parameters(), **SETTINGS) for each in (model, sharded))
    assert train(sharded, its, alone) == pytest.approx(train(model, optimizer, alone), rel=1e-5)
    grown = growth.widen(sharded, optimizer=its, shard=shard, width=width, noise=1)
    assert all(isinstance(value, DTensor) for value in grown.model.parameters())
    assert {value.device.type for value in grown.model.parameters()} == {alone}
    assert grown.optimizer is not None and all(group["fused"] for group in grown.optimizer.param_groups)
    for each, state in by_name(sharded, its).items():  # the same weights and state, in one piece
        model.get_parameter(each).data.copy_(whole(sharded.get_parameter(each)))
        for key, value in state.items():
            optimizer.state[model.get_parameter(each)][key].copy_(whole(value))
    one = growth.widen(model, optimizer=optimizer, width=width, noise=1)
    assert one.optimizer is not None
    names = [dict(each.model.named_parameters()) for each in (grown, one)]
    assert differing({name: whole(value) for name, value in names[0].items()}, names[1]) == []
    states = [flat(by_name(each.model, each.optimizer)) for each in (grown, one)]  # type: ignore[arg-type]
    assert differing({name: whole(value) for name, value in states[0].items()}, states[1]) == []
    losses = [train(each.model, each.optimizer, alone, 3) for each in (grown, one)]  # type: ignore[arg-type]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and len({*itertools.chain(*losses)}) > 2
