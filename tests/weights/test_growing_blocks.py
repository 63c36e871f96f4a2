"""Blocks are computed in any order and on any number of threads, and make the same bytes and the same fold."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from growth.algebra.dimensions import Dimension
from growth.algebra.maps import Map
from growth.algebra.roles import Keeps
from growth.plan.symmetry import Symmetry
from growth.plan.tensor_plan import TensorPlan
from growth.weights import draws, grow
from growth.weights.fold import Fold
from growth.weights.grow import grow_tensor, growing_blocks

N = 24


def writes(grown: Map) -> Dimension:
    return Dimension(grown.n, grown.source, grown.write, grown.read, mean=grown.mean)


def reads(grown: Map) -> Dimension:
    return Dimension(grown.n, grown.source, grown.read, grown.write, summed=True, mean=grown.mean)


def averaging() -> Map:
    mean = np.arange(N + 10) >= N
    return Map(N, np.arange(N + 10) % N, np.ones(N + 10), np.where(mean, 0.0, 1.0), mean)


DIMENSIONS = {
    "matrix": (writes(Map.repeat(N, 2 * N)), reads(Map.repeat(N, 3 * N))),
    "summed along its rows": (reads(Map.repeat(N, 3 * N)), writes(Map.repeat(N, N + 5))),
    "summed along two": (writes(Map.repeat(N, N + 7)), reads(Map.repeat(2, 4)), reads(Map.repeat(3, 6))),
    "means": (writes(averaging()), reads(averaging())),
    "vector": (reads(Map.repeat(N, 2 * N)),),
    "scalar": (),
    "kept": (Keeps().resolve(N, {}),),
}


@pytest.fixture(autouse=True)
def many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grow, "BLOCK", 8 * N)
    monkeypatch.setattr(grow, "CACHED", 3 * N)
    monkeypatch.setattr(draws, "CHUNK", 9 * N)


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as pool:
        yield pool


def weights(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)


@pytest.mark.parametrize("symmetry", ["none", "noise:1", "split:1/3:varied"])
@pytest.mark.parametrize("name", DIMENSIONS)
def test_blocks_in_any_order_and_on_threads_make_the_same_bytes(
    name: str, symmetry: str, pool: ThreadPoolExecutor
) -> None:
    dimensions = DIMENSIONS[name]
    roles = (Keeps(),) if name == "kept" else ()
    plan = TensorPlan("w", "w", tuple(d.old for d in dimensions), roles, dimensions, Symmetry.parse(symmetry))
    old, fold = weights(plan.shape), Fold()
    new = grow_tensor(old, plan, seed=3, fold=fold)
    growing = growing_blocks(old, plan, old.dtype, seed=3, each=pool.map)
    found = dict(zip(reversed(growing.starts), pool.map(growing.block, reversed(growing.starts)), strict=True))
    blocks, folds = zip(*(found[start] for start in growing.starts), strict=True)
    assert torch.equal(torch.cat(blocks).reshape(new.shape), new)
    assert Fold.merged([Fold(tensors=1), *folds]) == fold


def test_merged_folds_are_as_bad_as_the_worst_of_them() -> None:
    one = Fold(error=0.1, excess=2.0, exact=False, tensors=1, ulps=3.0, square=4.0, lost=1.0, differing=5, held_back=1)
    two = Fold(error=0.2, excess=0.5, exact=True, tensors=2, ulps=1.0, square=1.0, lost=0.5, differing=1, held_back=1)
    both = Fold(
        error=0.2, excess=2.0, exact=False, tensors=3, ulps=3.0, square=5.0, lost=1.5, differing=6, held_back=2
    )
    assert Fold.merged([one, two]) == Fold.merged([two, one]) == both
    assert Fold.merged([]) == Fold() and not Fold.merged([two, one]).ok
