"""Growing weights: the result is the definition whatever the block size, and the fold sees what is
wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from growth.algebra.dimensions import Dimension
from growth.algebra.maps import Map
from growth.plan.symmetry import Symmetry
from growth.plan.tensor_plan import TensorPlan
from growth.weights import blocks, draws, grow, symmetry_breaking
from growth.weights.fold import Fold
from growth.weights.grow import grow_tensor

SEED = 4


def writes(grown: Map) -> Dimension:
    return Dimension(grown.n, grown.source, grown.write, grown.read)


def reads(grown: Map) -> Dimension:
    return Dimension(grown.n, grown.source, grown.read, grown.write, summed=True)


def tensor_plan(*dimensions: Dimension, symmetry: str = "none") -> TensorPlan:
    return TensorPlan("w", "w", tuple(d.old for d in dimensions), (), dimensions, Symmetry.parse(symmetry))


def dense(old: Tensor, plan: TensorPlan) -> Tensor:
    """The definition, in one line per dimension."""
    result = old.double()
    for axis, d in enumerate(plan.dimensions):
        shape = [1] * old.ndim
        shape[axis] = -1
        result = result.index_select(axis, torch.from_numpy(d.source)) * torch.from_numpy(d.value).reshape(shape)
    return result


SHUFFLED = Map(
    5, np.array([3, 1, 0, 2, 4, 4, 1]), np.array([1, 0.5, 2, 1, 0.5, 0.25, 1]), np.array([1, 1, 0.5, 1, 1, 2, 0.5])
)
PLANS = {
    "doubled": tensor_plan(writes(Map.repeat(6, 12)), reads(Map.repeat(5, 10))),
    "tripled": tensor_plan(writes(Map.repeat(6, 18)), reads(Map.repeat(5, 15))),
    "fourfold": tensor_plan(writes(Map.repeat(6, 24)), reads(Map.repeat(5, 20))),
    "inside heads": tensor_plan(writes(Map.identity(3) * Map.repeat(2, 4, 2**0.5)), reads(Map.repeat(5, 10))),
    "conv1d": tensor_plan(reads(Map.repeat(6, 12)), writes(Map.repeat(2, 4) + Map.repeat(3, 6, 0.5))),
    "shuffled": tensor_plan(writes(SHUFFLED), reads(SHUFFLED)),
    "vector": tensor_plan(writes(Map.repeat(6, 12))),
    "read vector": tensor_plan(reads(Map.repeat(6, 12))),
    "three axes": tensor_plan(writes(Map.repeat(2, 4)), writes(Map.repeat(3, 6)), reads(Map.repeat(5, 15))),
}


def weight(plan: TensorPlan, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(plan.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


@pytest.fixture(autouse=True, params=[4, 1 << 21], ids=["small blocks", "one block"])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grow, "BLOCK", request.param)
    monkeypatch.setattr(grow, "CACHED", request.param // 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", PLANS)
def test_grows_as_defined_and_folds_back(name: str, dtype: torch.dtype) -> None:
    plan, fold = PLANS[name], Fold()
    old = weight(plan, dtype)
    new = grow_tensor(old, plan, fold=fold)
    torch.testing.assert_close(new, dense(old, plan).to(dtype), rtol=0, atol=0)
    assert fold.ok and fold.tensors == 1
    assert fold.exact or not plan.exact


@pytest.mark.parametrize("name", [name for name, plan in PLANS.items() if any(d.summed for d in plan.dimensions)])
def test_noise_is_seeded_has_its_rms_and_adds_up_to_zero(name: str) -> None:
    base = PLANS[name]
    plan = tensor_plan(*base.dimensions, symmetry="noise:0.3")
    old, fold = weight(base), Fold()
    new = grow_tensor(old, plan, seed=SEED, fold=fold)
    noise = new - dense(old, base)
    assert fold.ok
    assert 0.15 < float(noise.pow(2).mean().sqrt() / dense(old, base).pow(2).mean().sqrt()) < 0.6
    for axis, d in enumerate(plan.dimensions):
        if d.summed:
            assert float(blocks.fold_dimension(noise, d, axis).abs().max()) < 1e-14
    assert torch.equal(new, grow_tensor(old, plan, seed=SEED))
    assert not torch.equal(new, grow_tensor(old, plan, seed=SEED + 1))


def corrupt(
    plan: TensorPlan, position: Sequence[int], by: float, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> Fold:
    """The fold of a growth in which one weight of the result is changed before it is read back."""
    fold = Fold()
    same, compare = grow.compare_copies, grow.compare_sums

    def spoil(block: Tensor) -> Tensor:
        block = block.clone()
        block[tuple(position)] += by
        return block

    monkeypatch.setattr(grow, "compare_copies", lambda block, *rest: same(spoil(block), *rest))
    monkeypatch.setattr(grow, "compare_sums", lambda block, *rest: compare(spoil(block), *rest))
    grow_tensor(weight(plan, dtype), plan, fold=fold)
    return fold


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["doubled", "tripled", "inside heads", "shuffled", "three axes"])
def test_the_fold_sees_one_wrong_weight(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = PLANS[name]
    assert not corrupt(plan, [0] * len(plan.shape), 0.5, monkeypatch, dtype).ok


def test_the_fold_sees_noise_that_is_not_in_the_null_space(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tensor_plan(*PLANS["shuffled"].dimensions, symmetry="noise:0.3")  # whose copies are rounded one by one
    monkeypatch.setattr(
        symmetry_breaking,
        "fold_dimension",
        lambda noise, d, axis, *_: torch.zeros(*noise.shape[:axis], d.old, dtype=noise.dtype),
    )
    fold = Fold()
    grow_tensor(weight(plan), plan, seed=SEED, fold=fold)
    assert not fold.ok


def test_the_fold_sees_copies_in_the_wrong_place(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, fold = PLANS["inside heads"], Fold()
    take = grow.take
    monkeypatch.setattr(grow, "take", lambda block, axis, d: take(block, axis, d).roll(1, axis))
    monkeypatch.setattr(blocks, "take", lambda block, axis, d: take(block, axis, d).roll(1, axis))
    grow_tensor(weight(plan), plan, fold=fold)
    assert not fold.ok


def test_nan_does_not_pass_the_fold() -> None:
    for plan in (PLANS["doubled"], PLANS["tripled"]):
        old, fold = weight(plan), Fold()
        old[0, 0] = math.nan
        grow_tensor(old, plan, fold=fold)
        assert not fold.ok


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_subnormal_weights_that_cannot_be_halved_lose_only_their_last_bit(dtype: torch.dtype) -> None:
    plan, fold = PLANS["doubled"], Fold()
    old = weight(plan, dtype)
    smallest = (
        torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    )  # the last subnormal number: its half is not one
    old[0, 0] = smallest
    assert float(old[0, 0]) == smallest
    grow_tensor(old, plan, fold=fold)
    assert fold.ok and not fold.exact


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", PLANS)
def test_tensors_of_zeros_are_grown(name: str, dtype: torch.dtype) -> None:
    for symmetry in ("none", "noise:0.3", "split", "split:varied"):
        plan, fold = tensor_plan(*PLANS[name].dimensions, symmetry=symmetry), Fold()
        assert (
            not grow_tensor(torch.zeros(plan.shape, dtype=torch.float32), plan, dtype, fold=fold).any() and fold.exact
        )


def test_noise_does_not_depend_on_the_size_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tensor_plan(*PLANS["doubled"].dimensions, symmetry="noise:0.3")
    grown = []
    monkeypatch.setattr(draws, "CHUNK", 30)
    for size in (7, 30, 45, 1000):
        monkeypatch.setattr(grow, "BLOCK", size)
        grown.append(grow_tensor(weight(plan), plan, seed=SEED))
    assert all(torch.equal(grown[0], other) for other in grown)
