"""Copies that differ add up to the old weight to the last bit, in every dtype and for any number of
copies; wrong arithmetic is seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from growth.algebra.dimensions import Dimension
from growth.algebra.maps import Map
from growth.algebra.roles import Gain
from growth.plan.symmetry import Symmetry
from growth.plan.tensor_plan import TensorPlan
from growth.rules.norm import FINAL, RESIDUAL
from growth.weights import draws, exact_sums, grow, symmetry_breaking
from growth.weights.blocks import PlacedCopies, Places
from growth.weights.exact_sums import ExactSums
from growth.weights.fold import Fold
from growth.weights.grow import grow_tensor
from growth.weights.symmetry_breaking import split_shares

N = 48
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
COUNTS = [N + 17, 2 * N, 3 * N, 4 * N, 6 * N + 5]
"""New coordinates for N old ones: one or two copies, two, three, four, six or seven."""
BROKEN = ["noise:0.1", "noise:1", "split", "split:1/300", "split:varied"]


def writes(grown: Map) -> Dimension:
    return Dimension(grown.n, grown.source, grown.write, grown.read, mean=grown.mean)


def reads(grown: Map) -> Dimension:
    return Dimension(grown.n, grown.source, grown.read, grown.write, summed=True, mean=grown.mean)


def matrix(count: int, symmetry: str, write: float = 1.0) -> TensorPlan:
    """Rows from N to 1.5 N, columns from N to ``count``."""
    dimensions = writes(Map.repeat(N, N + N // 2)), reads(Map.repeat(N, count, write))
    return TensorPlan("w", "w", (N, N), (), dimensions, Symmetry.parse(symmetry))


def weights(dtype: torch.dtype) -> Tensor:
    """Normal numbers; single rows of tiny, subnormal, large and largest numbers, of zeros of either
    sign and of powers of two; some zeros in every row."""
    info = torch.finfo(dtype)
    w = torch.randn(N, N, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    w[1] *= 1e-3
    if dtype is not torch.float64:  # the arithmetic is float64, which cannot divide its own subnormal numbers
        w[2] *= info.smallest_normal
        w[3] *= info.smallest_normal * info.eps * 5
    w[4], w[5] = 0.0, -0.0
    w[6] = 2.0 ** torch.arange(N).remainder(12)
    w[:, ::11] = 0.0
    if dtype is torch.float16:  # in a wider dtype they would dwarf the other rows, and noise is relative to the RMS
        w[7] = info.max * torch.linspace(-1, 1, N, dtype=torch.float64)
        w[8] = info.max
    return w.to(dtype)


def folded(new: Tensor, plan: TensorPlan) -> Tensor:
    """Sum over the copies in each row, without rounding."""
    d, copies = plan.dimensions[1], new.double().numpy() * plan.dimensions[1].gradient
    return torch.tensor([[math.fsum(row[d.source == i]) for i in range(d.old)] for row in copies], dtype=torch.float64)


def grown(plan: TensorPlan, dtype: torch.dtype) -> tuple[Tensor, Tensor, Fold]:
    """(new, what its columns must add up to, the fold)."""
    fold, old = Fold(), weights(dtype)
    new = grow_tensor(old, plan, seed=5, fold=fold)
    return new, old.double()[plan.dimensions[0].source], fold


@pytest.mark.parametrize("symmetry", BROKEN)
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_copies_add_up_to_the_last_bit_and_differ(dtype: torch.dtype, count: int, symmetry: str) -> None:
    plan = matrix(count, symmetry)
    new, expected, fold = grown(plan, dtype)
    assert torch.equal(folded(new, plan), expected)
    assert plan.exact and fold.exact and fold.ok and fold.ulps == fold.rms == fold.error == 0
    assert fold.differing == expected.numel() and (fold.limited > 0) == symmetry.startswith("noise")
    several = min(
        count - N, N
    )  # the first two copies of those that have them; a subnormal number may have no two different halves
    differ = (new[:, :several] != new[:, N : N + several])[~np.isin(plan.dimensions[0].source, [3, 4, 5])]
    assert differ[:, np.arange(several) % 11 != 0].double().mean() > 0.9


@pytest.mark.parametrize("write", [0.5, 2.0])
def test_other_powers_of_two_round_nothing_either(write: float) -> None:
    for symmetry in BROKEN:
        fold, old = Fold(), weights(torch.float32)
        old[2:4] = 1.0  # a subnormal number has no half
        grow_tensor(old, matrix(3 * N, symmetry, write), fold=fold)
        assert fold.exact


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_with_other_coefficients_only_the_sum_is_rounded(dtype: torch.dtype) -> None:
    """With a coefficient of sqrt(2), or in a narrower dtype: by half an ulp of the weight, however
    many copies."""
    for symmetry in BROKEN:
        plan, fold = matrix(4 * N, symmetry, 2**-0.5), Fold()
        old = weights(dtype) if dtype is not torch.float16 else weights(dtype)[:7].repeat(8, 1)[:N]
        grow_tensor(old, plan, seed=5, fold=fold)
        assert fold.ok and not plan.exact and fold.ulps <= 1.1, symmetry
    narrow = Fold()
    grow_tensor(
        torch.randn(N, N, generator=torch.Generator().manual_seed(1)),
        matrix(3 * N, "noise:0.1"),
        torch.bfloat16,
        fold=narrow,
    )
    assert narrow.ok and 0.4 < narrow.ulps <= 0.5 and 0 < narrow.rms < 2**-8 and not narrow.exact


def test_the_largest_numbers_are_split_even_where_the_dtype_cannot_hold_their_sum() -> None:
    """Copies with the factor 1/sqrt(2) add up to more than float16 can hold, though it holds
    each."""
    fold = Fold()
    new = grow_tensor(torch.full((N, N), 65504.0, dtype=torch.float16), matrix(2 * N, "noise:0.3", 2**-0.5), fold=fold)
    assert new.isfinite().all() and fold.ok


@pytest.mark.parametrize("count", [N + 17, 2 * N, 3 * N])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_noise_is_as_large_as_asked_for_unless_deviation_factor(dtype: torch.dtype, count: int) -> None:
    for asked in (0.05, 0.2):
        old, fold = (
            torch.randn(N, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype),
            Fold(),
        )
        plain = grow_tensor(old, matrix(count, "none"), torch.float64)
        noise = grow_tensor(old, matrix(count, f"noise:{asked}"), fold=fold).double() - plain
        assert 0.8 * asked < float((noise.pow(2).mean() / plain.pow(2).mean()).sqrt()) < 1.1 * asked
        assert 0 < fold.limited < 2 * asked


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_split_has_the_shares_asked_for(dtype: torch.dtype) -> None:
    old = 1 + torch.rand(N, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    for count in COUNTS:
        plan = matrix(count, "split:1/3")
        d, new = plan.dimensions[1], grow_tensor(old, plan).double()
        wanted = split_shares(d, 1.0, 3.0)
        for source in (0, N - 1):
            copies = wanted[d.source == source]
            even = np.linspace(1, 3, len(copies)) if len(copies) > 1 else np.ones(1)
            np.testing.assert_allclose(copies, even / even.sum(), rtol=1e-12)
        off = new / old.double()[plan.dimensions[0].source][:, d.source] - torch.from_numpy(wanted)
        assert float(off.abs().max()) <= (2 if dtype is not torch.float64 else 8) * torch.finfo(dtype).eps
    varied = grow_tensor(old, matrix(2 * N, "split:1/3:varied")).double()
    ratio = varied[:, :N] / varied[:, N:]
    assert 0.3 < float(ratio.min()) < 0.6 and 1.8 < float(ratio.max()) < 3.1


def test_a_gain_that_the_model_adds_one_to_is_split_with_the_one() -> None:
    """``1 + w``: the shares are of ``1 + w``, so the stored copies add up to ``w`` less 1."""
    maps = {RESIDUAL: Map.repeat(N, 2 * N), FINAL: Map.repeat(N, 2 * N).dual}
    for symmetry in BROKEN:
        role, fold = Gain(RESIDUAL, FINAL, offset=1.0), Fold()
        d = replace(role.resolve(N, maps), summed=True)
        plan = TensorPlan("g", "g", (N,), (role,), (d,), Symmetry.parse(symmetry))
        old = 0.1 * torch.randn(N, generator=torch.Generator().manual_seed(2))
        new = grow_tensor(old, plan, fold=fold).double()
        assert (
            fold.ok and not plan.exact and fold.ulps <= 16
        )  # of w: the copies add up to w - 1, which has fewer bits for w
        assert float((1 + new[:N] + 1 + new[N:] - 1 - old.double()).abs().max()) < 1e-7
        if symmetry == "split":
            np.testing.assert_allclose((1 + new[:N]) / (1 + new[N:]), 0.5, rtol=1e-6)
        if symmetry == "noise:0.1":
            assert 0.03 < float((new[:N] - new[N:]).std()) < 0.2  # a tenth of about a half, in either copy


def test_means_and_silent_coordinates_are_not_part_of_the_sum() -> None:
    mean = np.arange(N + 10) >= N
    carried = Map(N, np.arange(N + 10) % N, np.full(N + 10, 2.0), np.where(mean, 0.0, 0.5), mean)
    silent = Map(N, np.arange(2 * N) % N, (np.arange(2 * N) < N).astype(float), np.ones(2 * N))
    for grown_map in (carried, carried.dual, silent):
        for symmetry in BROKEN:
            fold = Fold()
            plan = TensorPlan(
                "w", "w", (N, N), (), (writes(Map.identity(N)), reads(grown_map)), Symmetry.parse(symmetry)
            )
            old = torch.randn(N, N, generator=torch.Generator().manual_seed(2))
            new = grow_tensor(old, plan, fold=fold)
            assert fold.exact and fold.limited == 0
            if grown_map is not silent:
                whole = old.mean(1, keepdim=True) * torch.from_numpy(grown_map.read[N:]).float()
                torch.testing.assert_close(new[:, N:], whole.expand(-1, 10), rtol=1e-6, atol=1e-7)
            else:
                assert torch.equal(new[:, :N], old) and torch.equal(new[:, N:], old) != symmetry.startswith("noise")


Mutant = Callable[[pytest.MonkeyPatch], None]


def rounded_apart(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TensorPlan, "exact_sum_axis", None)


def wrong_copy(patch: pytest.MonkeyPatch) -> None:
    def rolled(copies: PlacedCopies) -> PlacedCopies:
        *others, last = copies.positions
        return replace(copies, positions=(*others, Places(np.roll(last.positions, 1))))

    right = symmetry_breaking.placed_copies
    patch.setattr(symmetry_breaking, "placed_copies", lambda *a, **k: [rolled(copies) for copies in right(*a, **k)])


def off_by(factor: float) -> Mutant:
    """Round to multiples of a wrong ulp, and limit deviations as for the right one."""

    def mutate(patch: pytest.MonkeyPatch) -> None:
        ulps = exact_sums.ulps
        patch.setattr(exact_sums, "ulps", lambda *a: ulps(*a) * factor)
        changed(lambda sums: setattr(sums, "largest", sums.largest / factor))(patch)

    return mutate


def changed(change: Callable[[ExactSums], None]) -> Mutant:
    """Change what the copies of a tensor have in common."""

    def mutate(patch: pytest.MonkeyPatch) -> None:
        init = ExactSums.__init__

        def wrong(sums: ExactSums, *args: Any) -> None:
            init(sums, *args)
            change(sums)

        patch.setattr(ExactSums, "__init__", wrong)

    return mutate


def never_reduced(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ExactSums, "amplitude", lambda self, unit, equal, deviations, wanted: wanted.clone())


MUTANTS = {
    "every copy rounded by itself": rounded_apart,
    "the rest given to another weight": wrong_copy,
    "an ulp one bit too coarse": off_by(2.0),
    "an ulp one bit too fine": off_by(0.5),
    "copies of one bit more than the dtype has": changed(lambda sums: setattr(sums, "largest", 2 * sums.largest)),
    "arithmetic of fewer bits than the dtype has": changed(
        lambda sums: setattr(sums, "like", sums.like.to(torch.bfloat16))
    ),
    "no deviation reduced": never_reduced,
}


@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_copies_of_mutants_do_not_add_up(mutant: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    if mutant.startswith("arithmetic") and dtype is torch.bfloat16:
        dtype = torch.float16  # no arithmetic has fewer bits
    MUTANTS[mutant](monkeypatch)
    plan = matrix(3 * N, "noise:1")
    new, expected, fold = grown(plan, dtype)
    assert not torch.equal(folded(new, plan), expected) and not fold.exact and fold.ulps > 0


@pytest.mark.parametrize("symmetry", ["noise:0.3", pytest.param("split:varied", marks=pytest.mark.slow)])
def test_threads_blocks_and_layout_change_no_bit(symmetry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mean = np.arange(4 * N) >= 3 * N
    carried = Map(3 * N, np.arange(4 * N) % (3 * N), np.ones(4 * N), np.where(mean, 0.0, 1.0), mean)
    old = torch.randn(9 * N, 3 * N, generator=torch.Generator().manual_seed(1))
    matrices = [(old, writes(Map.repeat(9 * N, 16 * N)), reads(Map.repeat(3 * N, 7 * N)))]
    matrices += [
        (old, reads(Map.repeat(9 * N, 16 * N)), writes(carried)),
        (old.T.contiguous().T, writes(Map.identity(9 * N)), reads(carried)),
    ]
    threads = torch.get_num_threads()
    monkeypatch.setattr(draws, "CHUNK", 1 << 13)
    for held, *dimensions in matrices:
        plan = TensorPlan("w", "w", tuple(held.shape), (), tuple(dimensions), Symmetry.parse(symmetry))
        results = []
        try:
            for count, block, contiguous in (
                (1, 1 << 21, True),
                (2, 1 << 21, False),
                (2, 1 << 12, True),
                (1, 1000, False),
            ):
                torch.set_num_threads(count)
                monkeypatch.setattr(grow, "BLOCK", block)
                monkeypatch.setattr(grow, "CACHED", block // 3)
                results.append(grow_tensor(held.contiguous() if contiguous else held, plan, torch.bfloat16, seed=3))
        finally:
            torch.set_num_threads(threads)
        assert all(torch.equal(results[0], other) for other in results[1:])
