"""Copies add up to the last bit for any bits a dtype has: subnormal numbers, zeros of either sign, the largest; and
tensors without rows, scalars and NaN grow too."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from growth.algebra.dimensions import Dimension
from growth.algebra.maps import Map
from growth.algebra.roles import Keeps
from growth.errors import CheckpointError, ProofError
from growth.plan.symmetry import Symmetry
from growth.plan.tensor_plan import TensorPlan
from growth.weights import exact_sums, grow, reading_back
from growth.weights.fold import Fold, check_fold
from growth.weights.grow import grow_tensor

ROWS, N = 6, 10
HALF = [torch.bfloat16, torch.float16]
WIDTHS = [2 * N, 3 * N, 5 * N, N + 3, 2 * N + 7]
SYMMETRIES = ["noise:1", "noise:0.05", "split", "split:1/200", "split:1/8:varied"]
KINDS = ["any", "subnormal", "largest", "tiny", "few bits", "zeros"]


def plan_of(width: int, symmetry: str, write: float = 1.0) -> TensorPlan:
    rows, columns = Map.identity(ROWS), Map.repeat(N, width, write)
    dimensions = (
        Dimension(ROWS, rows.source, rows.write, rows.read),
        Dimension(N, columns.source, columns.read, columns.write, summed=True),
    )
    return TensorPlan("w", "w", (ROWS, N), (), dimensions, Symmetry.parse(symmetry))


def bits(kind: str, seed: int, dtype: torch.dtype) -> Tensor:
    """Finite numbers of 16 bits: any, or of one kind in random rows among any."""
    random = np.random.default_rng(seed)
    raw = torch.from_numpy(random.integers(-(2**15), 2**15, (ROWS, N), dtype=np.int16)).view(dtype)
    info = torch.finfo(dtype)
    least = info.smallest_normal * info.eps
    sign = torch.from_numpy(random.choice([-1.0, 1.0], (ROWS, N)))
    whole = torch.from_numpy(random.integers(0, int(1 / info.eps), (ROWS, N)).astype(float))
    numbers = {
        "any": raw.double(),
        "subnormal": sign * whole * least,
        "largest": sign * info.max * (1 - whole.remainder(3) * info.eps / 2),
        "tiny": raw.double() * 2.0**-20,
        "few bits": sign * 2.0 ** whole.remainder(9),
        "zeros": sign * 0.0,
    }[kind].to(dtype)
    chosen = torch.from_numpy(random.random(ROWS) < random.choice([0.3, 1.0]))[:, None]
    mixed = torch.where(chosen, numbers, raw)
    return torch.where(mixed.isfinite(), mixed, torch.ones_like(mixed))


def folded(new: Tensor, plan: TensorPlan) -> list[list[float]]:
    """Sums over the copies in each row, without rounding."""
    d, copies = plan.dimensions[1], new.double().numpy()
    return [[math.fsum(row[d.source == i]) for i in range(d.old)] for row in copies]


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(HALF), st.sampled_from(WIDTHS), st.sampled_from(SYMMETRIES), st.sampled_from(KINDS), st.integers(0)
)
def test_copies_of_any_bits_add_up(dtype: torch.dtype, width: int, symmetry: str, kind: str, seed: int) -> None:
    plan, old, fold = plan_of(width, symmetry), bits(kind, seed, dtype), Fold()
    new = grow_tensor(old, plan, seed=seed % 100, fold=fold)
    assert new.isfinite().all() and folded(new, plan) == old.tolist()
    assert fold.exact and fold.ok and fold.differing == old.numel()


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(HALF), st.sampled_from(WIDTHS), st.sampled_from(SYMMETRIES), st.sampled_from(KINDS), st.integers(0)
)
def test_float32_and_float64_make_the_same_copies(
    dtype: torch.dtype, width: int, symmetry: str, kind: str, seed: int
) -> None:
    """But for a copy that lies halfway between two multiples of u, which either may round either way."""
    plan, old = plan_of(width, symmetry), bits(kind, seed, dtype)
    new = grow_tensor(old, plan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_sums, "SUMS", 0)
        other = grow_tensor(old, plan)
    unit = exact_sums.ulps(old.double(), dtype)[:, plan.dimensions[1].source]
    off = ((new.double() - other.double()).abs() / unit)[(old != 0)[:, plan.dimensions[1].source]]
    assert not off.numel() or (off.max() <= 2 and (off > 0).double().mean() < 0.1)


def test_the_largest_noise_on_the_largest_numbers_stays_finite() -> None:
    for dtype in HALF:
        for width in WIDTHS:
            old, fold = torch.full((ROWS, N), torch.finfo(dtype).max, dtype=dtype), Fold()
            old[::2] *= -1
            new = grow_tensor(old, plan_of(width, "noise:1"), fold=fold)
            assert new.isfinite().all() and fold.exact and fold.ok


@pytest.mark.parametrize("dtype", [*HALF, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("width", [2 * N, N + 3, 3 * N])
def test_negative_zero_stays_a_zero_and_plain_copies_keep_its_sign(dtype: torch.dtype, width: int) -> None:
    old = -torch.zeros(ROWS, N, dtype=dtype)
    assert torch.signbit(grow_tensor(old, plan_of(width, "none"))).all()
    fold = Fold()
    assert not grow_tensor(old, plan_of(width, "noise:1"), fold=fold).any() and fold.exact


@pytest.mark.parametrize("dtype", [*HALF, torch.float32], ids=str)
@pytest.mark.parametrize("width", [2 * N, N + 3, 3 * N])
def test_nan_and_infinity_are_carried_to_every_copy(dtype: torch.dtype, width: int) -> None:
    old, plan = torch.ones(ROWS, N, dtype=dtype), plan_of(width, "none")
    old[0, 1], old[2, 3], old[4, 5] = math.nan, math.inf, -math.inf
    new, source = grow_tensor(old, plan), plan.dimensions[1].source
    assert new.isnan().equal(old.isnan()[:, source])
    assert new.isposinf().equal(old.isposinf()[:, source]) and new.isneginf().equal(old.isneginf()[:, source])
    fold = Fold()
    grow_tensor(old, plan, fold=fold)
    assert not fold.ok


def test_the_fold_sees_what_float32_rounds_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of 1 that are 1 and 2**-30 add up to 1 in float32, but for what its rounding takes."""
    copies, twice = Map.repeat(1, 2), torch.tensor([[1.0, 2.0**-30]], dtype=torch.bfloat16)
    dimension = Dimension(1, copies.source, copies.read, copies.write, summed=True)
    assert not reading_back.compare_sums(twice, torch.ones(1, 1), [dimension]).exact
    monkeypatch.setattr(reading_back, "added_up", lambda parts, exactly: (sum(parts), None))
    assert reading_back.compare_sums(twice, torch.ones(1, 1), [dimension]).exact  # the wrong version


@pytest.mark.parametrize("symmetry", ["none", "noise:1", "split:varied"])
def test_tensors_without_rows_and_scalars_grow(symmetry: str) -> None:
    empty, columns = Map.identity(0), Map.repeat(N, 2 * N)
    dimensions = (
        Dimension(0, empty.source, empty.write, empty.read),
        Dimension(N, columns.source, columns.read, columns.write, summed=True),
    )
    for order in (dimensions, dimensions[::-1]):
        fold, shape = Fold(), tuple(d.old for d in order)
        plan = TensorPlan("w", "w", shape, (), order, Symmetry.parse(symmetry))
        new = grow_tensor(torch.empty(shape, dtype=torch.bfloat16), plan, fold=fold)
        assert new.shape == plan.new_shape and fold.ok and fold.exact and fold.tensors == 1
    for roles in ((), (Keeps(),)):
        fold = Fold()
        plan = TensorPlan("w", "w", (1,) * len(roles), roles, tuple(role.resolve(1, {}) for role in roles))
        assert grow_tensor(torch.tensor(3.0).reshape(plan.shape), plan, torch.float16, fold=fold).item() == 3.0
        assert fold.ok and fold.exact


@pytest.mark.parametrize("power", [-600, 531, 1000, 1021])
@pytest.mark.parametrize("symmetry", ["noise:1", "split"])
def test_float64_weights_whose_squares_are_no_float64_grow_like_others(symmetry: str, power: int) -> None:
    old = torch.randn(ROWS, N, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).clamp(-4, 4)
    plan, fold = plan_of(3 * N, symmetry), Fold()
    large = grow_tensor(old * 2.0**power, plan, fold=fold)
    assert torch.equal(large * 2.0**-power, grow_tensor(old, plan)) and fold.ok and fold.exact


def test_weights_do_not_depend_on_large_ones_they_are_worked_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum beyond the largest number, though its copies are not, limits the copies of no other weight."""
    plan = plan_of(2 * N, "split:1/9999", write=2**-0.5)
    old = bits("any", 1, torch.bfloat16)
    old[1:] = 1.40625 * 2.0 ** torch.arange(N)  # times the root of 2 they are 255 ulps
    old[0] = torch.finfo(torch.bfloat16).max
    grown = []
    for cached in (N, 1 << 17):
        monkeypatch.setattr(grow, "CACHED", cached)
        grown.append(grow_tensor(old, plan))
        assert grown[-1].isfinite().all()
    assert torch.equal(*grown)


@pytest.mark.parametrize("write", [0.125, 2**-0.5])
@pytest.mark.parametrize("symmetry", ["none", "noise:1", "split"])
def test_a_factor_that_makes_weights_too_large_is_told_from_a_wrong_growth(symmetry: str, write: float) -> None:
    old, plan, fold = torch.full((ROWS, N), 60000.0, dtype=torch.float16), plan_of(N + 3, symmetry, write), Fold()
    new = grow_tensor(old, plan, fold=fold)
    assert not fold.ok and not new.isfinite().all()
    with pytest.raises(CheckpointError, match="'w' would hold values beyond the largest"):
        check_fold(fold, old, plan, torch.float16)
    with pytest.raises(ProofError, match="Please report this"):
        check_fold(fold, old / 16, plan, torch.float16)
