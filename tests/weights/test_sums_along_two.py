"""Copies that are summed along two dimensions, the first among them, whatever else grows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from growth.algebra.dimensions import Dimension
from growth.algebra.maps import Map
from growth.algebra.roles import Keeps
from growth.plan.symmetry import Symmetry
from growth.plan.tensor_plan import TensorPlan
from growth.weights import grow
from growth.weights.blocks import fold_dimension
from growth.weights.fold import Fold
from growth.weights.grow import Blocks, grow_tensor, growing_blocks

SYMMETRIES = ["none", "noise:1", "split", "split:1/3:varied"]


def writes(grown: Map) -> Dimension:
    return Dimension(grown.n, grown.source, grown.write, grown.read)


def reads(grown: Map) -> Dimension:
    return Dimension(grown.n, grown.source, grown.read, grown.write, summed=True)


READ = reads(Map.repeat(4, 8)), reads(Map.repeat(6, 12))
DIMENSIONS = {
    "both": READ,
    "unevenly": (reads(Map.repeat(4, 7)), reads(Map.repeat(6, 11))),
    "between them one that is written": (READ[0], writes(Map.repeat(3, 6)), READ[1]),
    "between them one that is kept": (READ[0], Keeps().resolve(3, {}), READ[1]),
    "before one that is written": (*READ, writes(Map.repeat(3, 6))),
    "the second does not grow": (READ[0], reads(Map.identity(6))),
    "the first does not grow": (reads(Map.identity(4)), READ[1]),
}


def plan_of(dimensions: tuple[Dimension, ...], symmetry: str) -> TensorPlan:
    return TensorPlan("w", "w", tuple(d.old for d in dimensions), (), dimensions, Symmetry.parse(symmetry))


def weights(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("symmetry", SYMMETRIES)
@pytest.mark.parametrize("name", DIMENSIONS)
def test_sums_along_two_dimensions_are_those_of_the_source(
    name: str, symmetry: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(DIMENSIONS[name], symmetry)
    old, fold = weights(plan.shape, dtype), Fold()
    new = grow_tensor(old, plan, seed=3, fold=fold)
    assert fold.ok and fold.tensors == 1 and new.shape == plan.new_shape
    if symmetry != "none":
        equal = grow_tensor(old, plan_of(plan.dimensions, "none"))
        assert not torch.allclose(new.double(), equal.double(), rtol=0.1)
    monkeypatch.setattr(grow, "BLOCK", 16)
    monkeypatch.setattr(grow, "CACHED", 8)
    with ThreadPoolExecutor(2) as pool:
        assert torch.equal(grow_tensor(old, plan, seed=3, each=pool.map), new)


@pytest.mark.parametrize("symmetry", SYMMETRIES)
@pytest.mark.parametrize("name", DIMENSIONS)
def test_in_float64_to_the_last_few_bits(name: str, symmetry: str) -> None:
    plan = plan_of(DIMENSIONS[name], symmetry)
    old = folded = weights(plan.shape)
    new = grow_tensor(old, plan, seed=3)
    for axis, d in enumerate(plan.dimensions):
        if d.summed:
            new = fold_dimension(new, d, axis)
        else:
            folded = folded.index_select(axis, torch.from_numpy(d.source))
    torch.testing.assert_close(new, folded, rtol=0, atol=1e-14)


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_a_first_dimension_that_does_not_grow_is_grown_by_rows(symmetry: str) -> None:
    """As one that is written: what is drawn for a row does not depend on the role of the rows."""
    first, columns = Map.identity(4), READ[1]
    old = weights((4, 6), torch.float32)
    read, written = (
        grow_tensor(old, plan_of((dimension, columns), symmetry), seed=3)
        for dimension in (reads(first), writes(first))
    )
    assert torch.equal(read, written)


def test_reading_back_covers_the_tensor_grown_as_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """One wrong weight in the last row of it is refused."""
    plan = plan_of(READ, "noise:1")
    compare = grow.compare_sums

    def spoiled(block: Tensor, *rest: object) -> Fold:
        block[0, -1, -1] += 0.01
        return compare(block, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(grow, "compare_sums", spoiled)
    growing: Blocks = growing_blocks(weights(plan.shape), plan, torch.float64)
    fold = Fold.merged(growing.block(start)[1] for start in growing.starts)
    assert not fold.ok
