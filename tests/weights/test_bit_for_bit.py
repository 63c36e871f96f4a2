"""Where growth rounds nothing, the fold lets nothing pass: one copy that is off by its last bit is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from growth.algebra.dimensions import Dimension
from growth.algebra.maps import Map
from growth.plan.symmetry import Symmetry
from growth.plan.tensor_plan import TensorPlan
from growth.weights import grow, reading_back
from growth.weights.exact_sums import ExactSums
from growth.weights.fold import Fold
from growth.weights.grow import grow_tensor

N = 24
DTYPES = [torch.bfloat16, torch.float16, torch.float32]
PLACES = [(0, 0), (3, 5), (7, N - 1), (2, N), (N - 1, N + 3)]
"""First and second copies."""


def matrix(copies: int, symmetry: str, write: float = 1.0, rows: int = N) -> TensorPlan:
    row, columns = Map.repeat(N, rows), Map.repeat(N, copies * N, write)
    dimensions = (
        Dimension(N, row.source, row.write, row.read),
        Dimension(N, columns.source, columns.read, columns.write, summed=True),
    )
    return TensorPlan("w", "w", (N, N), (), dimensions, Symmetry.parse(symmetry))


def weights(dtype: torch.dtype) -> Tensor:
    return torch.randn(N, N, generator=torch.Generator().manual_seed(1)).to(dtype)


def one_ulp_off(block: Tensor, row: int, column: int) -> None:
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[block.dtype.itemsize]
    block.view(integers)[row, column] += 1


def dropped(block: Tensor, row: int, column: int) -> None:
    assert block[row, column] != 0
    block[row, column] = 0


def swapped(block: Tensor, row: int, column: int) -> None:
    pair = [column, column + 1 if column % N < N - 1 else column - 1]
    assert block[row, pair[0]] != block[row, pair[1]]
    block[row, pair] = block[row, pair[::-1]]


Mutant = Callable[[Tensor, int, int], None]
MUTANTS: dict[str, Mutant] = {
    "one ulp off": one_ulp_off,
    "a dropped copy": dropped,
    "swapped neighbours": swapped,
}


def folds(plan: TensorPlan, old: Tensor, mutant: Mutant, patch: pytest.MonkeyPatch) -> list[Fold]:
    """What the fold finds for a wrong copy in each of the places."""
    found = []
    compare = reading_back.compare_sums
    for place in PLACES:

        def spoiled(block: Tensor, *rest: object, place: tuple[int, int] = place) -> Fold:
            mutant(block, *place)
            return compare(block, *rest)  # type: ignore[arg-type]

        patch.setattr(grow, "compare_sums", spoiled)
        found.append(Fold())
        grow_tensor(old, plan, seed=2, fold=found[-1])
    return found


@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.parametrize("symmetry", ["noise:1", "split:1/3"])
@pytest.mark.parametrize("copies", [2, 3, 7])
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64], ids=str)
def test_one_wrong_copy_of_those_that_differ_is_refused(
    dtype: torch.dtype, copies: int, symmetry: str, mutant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = folds(matrix(copies, symmetry), weights(dtype), MUTANTS[mutant], monkeypatch)
    assert not any(fold.ok for fold in found)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64], ids=str)
def test_reading_may_round_where_growth_does_not(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three whole copies, each read a third: a copy is exact, a third of it is not."""
    plan, fold = matrix(3, "none", write=1 / 3, rows=N + 5), Fold()
    assert plan.exact and (plan.dimensions[1].value == 1).all() and (plan.dimensions[1].gradient == 1 / 3).all()
    grow_tensor(weights(dtype), plan, fold=fold)
    assert fold.ok
    if dtype is not torch.float64:
        assert not any(fold.ok for fold in folds(plan, weights(dtype), one_ulp_off, monkeypatch))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_where_growth_rounds_every_copy_may_be_off_by_half_an_ulp(dtype: torch.dtype) -> None:
    """Thirds do not add up, nor do sums that a root or another dtype rounds; they are right."""
    for plan in (matrix(3, "none"), matrix(2, "noise:1", 2**0.5)):
        fold = Fold()
        grow_tensor(weights(dtype), plan, fold=fold)
        assert fold.ok and not fold.exact
    fold = Fold()
    grow_tensor(weights(dtype), matrix(2, "noise:1"), torch.bfloat16, fold=fold)
    assert fold.ok and fold.exact == (dtype is torch.bfloat16)


def test_the_fold_sees_what_float64_rounds_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of 1 that are 1 and 2**-60 add up to 1 in float64, but for what its rounding takes."""
    copies, twice = Map.repeat(1, 2), torch.tensor([[1.0, 2.0**-60]], dtype=torch.float64)
    dimension = Dimension(1, copies.source, copies.read, copies.write, summed=True)
    one = torch.ones(1, 1, dtype=torch.float64)
    assert not reading_back.compare_sums(twice, one, [dimension], True).ok
    assert not reading_back.compare_sums(twice, one, [dimension]).exact
    added_up = reading_back.added_up
    monkeypatch.setattr(reading_back, "added_up", lambda *a, **k: (sum(x for x in added_up(*a, **k)), None))
    assert reading_back.compare_sums(twice, one, [dimension]).exact  # the wrong version


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("symmetry", ["none", "noise:1", "split"])
def test_subnormal_weights_are_no_excuse_for_others(
    dtype: torch.dtype, symmetry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a factor of a half subnormal weights lose their last bit, and only they may."""
    plan, old, fold = matrix(2, symmetry, write=2.0), weights(dtype), Fold()
    old[N // 2] = torch.arange(1, N + 1, dtype=dtype) * torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    grow_tensor(old, plan, fold=fold)
    assert fold.ok and not fold.exact
    if symmetry != "none":
        assert not any(fold.ok for fold in folds(plan, old, one_ulp_off, monkeypatch))


def held_back(copies: int) -> Fold:
    """Of float64 weights, half of them so small that noise is held back."""
    size, fold = 512, Fold()
    old = torch.randn(size, size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    old[:, ::2] *= 1e-3
    row, columns = Map.repeat(size, size), Map.repeat(size, copies * size)
    dimensions = (
        Dimension(size, row.source, row.write, row.read),
        Dimension(size, columns.source, columns.read, columns.write, summed=True),
    )
    plan = TensorPlan("w", "w", (size, size), (), dimensions, Symmetry.parse("noise:1"))
    grow_tensor(old, plan, seed=1, fold=fold)
    return fold


@pytest.mark.parametrize("copies", [2, 3, 5])
def test_sums_are_exact_where_noise_is_held_back(copies: int) -> None:
    """In float64 too, whose arithmetic is no finer than its numbers."""
    fold = held_back(copies)
    assert fold.ok and fold.exact and fold.held_back > 1000


def test_a_last_copy_that_is_not_what_the_others_leave_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nearly the same is drawn for all copies, the rounding of its mean is large beside their deviations."""
    amplitude = ExactSums.amplitude

    def wrong(self: ExactSums, unit: Tensor, equal: list[Tensor], deviations: list[Tensor], wanted: Tensor) -> Tensor:
        return amplitude(self, unit, equal, deviations, wanted) * (1 + 2.0**-40)

    monkeypatch.setattr(ExactSums, "amplitude", wrong)
    assert not held_back(3).ok
