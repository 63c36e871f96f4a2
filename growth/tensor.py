"""The only arithmetic on weights: ``new[j0, j1] = value_0[j0] value_1[j1] old[source_0[j0], source_1[j1]]``, and its inverse, the fold.

Both go through a tensor in blocks of rows, so that memory does not depend on its size. Coefficients are float64 and every weight is
cast once, at the end; where the coefficients are one power of two, scaling is exact in the weight's own dtype and needs no cast.

The fold reads a grown block back: along a dimension that is summed, the copies of a weight, each times its gradient coefficient (what the
activation it is read with carries), must add up to that weight. That is the condition for the layer to compute the same outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from growth.blocks import column, fold_dimension, mean, take, tiled, widened
from growth.grid import units
from growth.plan import TensorPlan
from growth.role import Dimension, Keeps
from growth.shares import CHUNK, Shares

BLOCK = 1 << 21
"""Elements worked on at a time."""


@dataclass
class Fold:
    """What reading grown tensors back through their maps found.

    Args:
        error: max |folded - expected| over max |expected|, block by block.
        excess: the same difference in units of what rounding each weight once can explain; at most 1.
        exact: True if every weight came back bit for bit.
        tensors: how many were read back.
        ulps: max |folded - expected| in units in the last place of the expected weight in the dtype of the result (of its copies, where it
            is 0), beyond what float64 itself loses on the way.
        square, lost: sum of expected**2 and of (folded - expected)**2.
        shared, held_back: number of weights whose copies were to differ, and of those among them where less than asked for (`growth.grid`).
    """

    error: float = 0.0
    excess: float = 0.0
    exact: bool = True
    tensors: int = 0
    ulps: float = 0.0
    square: float = 0.0
    lost: float = 0.0
    shared: int = 0
    held_back: int = 0

    @property
    def ok(self) -> bool:
        """True if rounding each weight once explains everything."""
        return self.excess <= 1.0

    @property
    def rms(self) -> float:
        """RMS of folded - expected over that of expected, all tensors together; to three digits, for sums of floats depend on threads."""
        return float(f"{math.sqrt(self.lost / self.square):.3g}") if self.square else 0.0

    @property
    def limited(self) -> float:
        """Share of the weights whose copies were to differ, and do so less than was asked for."""
        return self.held_back / self.shared if self.shared else 0.0

    def to_json(self) -> dict[str, float | bool | int]:
        """What to report."""
        found = {"error": self.error, "rms": self.rms, "ulps": self.ulps, "excess": self.excess, "limited": self.limited}
        return {"tensors": self.tensors, "exact": self.exact, **found}


def grow_tensor(old: Tensor, plan: TensorPlan, dtype: torch.dtype | None = None, *, seed: int = 0, fold: Fold | None = None) -> Tensor:
    """The grown tensor, whole. Arguments as for `grow_blocks`."""
    new = torch.empty(plan.new_shape, dtype=dtype or old.dtype, device=old.device)
    for start, block in grow_blocks(old, plan, new.dtype, seed=seed, fold=fold):
        (new if new.ndim else new[None])[start : start + len(block)] = block
    return new


def grow_blocks(
    old: Tensor, plan: TensorPlan, dtype: torch.dtype, *, seed: int = 0, fold: Fold | None = None
) -> Iterator[tuple[int, Tensor]]:
    """(first row, rows) of the grown tensor, in order.

    Args:
        old: the source tensor, shape ``plan.shape``.
        plan: its plan.
        dtype: of the result.
        seed: of what is drawn, where the plan wants it.
        fold: where to record what reading every block back found.
    """
    if fold is not None:
        fold.tensors += 1
    if not plan.dimensions:  # a scalar, as its only row
        old, plan = old[None], replace(plan, shape=(1,), roles=(Keeps(),), dimensions=(Keeps().resolve(1, {}),))
    if plan.kept and dtype == old.dtype:
        yield from ((start, old[start : start + _rows(plan)].contiguous()) for start in range(0, len(old), _rows(plan)))
        return
    if not plan.dimensions[0].summed:
        yield from _blocks(old, plan, dtype, seed, fold)
        return
    # Copies that are summed must lie in one block: work on the transpose.
    flipped = plan.flipped
    turned = torch.empty(flipped.new_shape, dtype=dtype, device=old.device)
    for start, block in _blocks(old[None] if old.ndim == 1 else old.permute(*reversed(range(old.ndim))), flipped, dtype, seed, fold):
        turned[start : start + len(block)] = block
    whole = turned[0] if old.ndim == 1 else turned.permute(*reversed(range(old.ndim)))
    step = _rows(plan)
    for start in range(0, len(whole), step):
        yield start, whole[start : start + step].contiguous()


def _rows(plan: TensorPlan) -> int:
    return max(1, BLOCK // max(1, math.prod(plan.new_shape[1:])))


def _blocks(old: Tensor, plan: TensorPlan, dtype: torch.dtype, seed: int, fold: Fold | None) -> Iterator[tuple[int, Tensor]]:
    first, *rest = plan.dimensions
    shares = Shares(old, plan, dtype, seed) if plan.symmetry.breaks else None
    factor = _uniform_power_of_two(plan) if dtype == old.dtype else None
    average = _mean_of_rows(old) if first.averages else None
    step = _rows(plan)
    for start in range(0, first.new, step):
        stop = min(start + step, first.new)
        rows = _rows_of(old, first, start, stop)
        if factor is not None:
            block = _scaled_copies(rows, rest, factor)
            if fold is not None:
                fold.exact &= _same_copies(block, rows, rest, factor, fold)
        else:
            expected = rows.to(torch.float64)
            if average is not None and first.mean is not None:
                expected = torch.where(column(first.mean[start:stop], rows.ndim, 0, expected) != 0, average, expected)
            expected = expected * column(first.value[start:stop], rows.ndim, 0, expected)
            if first.shift is not None:
                expected = expected + column(first.shift[start:stop], rows.ndim, 0, expected)
            wide = expected
            for axis, dimension in enumerate(rest, 1):
                if shares is None or not dimension.summed or not dimension.grows:
                    wide = widened(wide, axis, dimension)
            block = wide.to(dtype) if shares is None else shares(wide.contiguous(), start)
            if fold is not None:
                _compare(block, expected, rest, fold)
        yield start, block
    if fold is not None and shares is not None and shares.grid is not None:
        fold.shared += shares.grid.weights
        fold.held_back += shares.grid.limited


def _uniform_power_of_two(plan: TensorPlan) -> float | None:
    """The one factor of every weight, if it is a power of two, counts are equal and so are copies."""
    if plan.symmetry.breaks or any(d.shift is not None or d.averages for d in plan.dimensions):
        return None
    if not all(bool((d.value == d.value[0]).all()) and np.ptp(np.bincount(d.source)) == 0 for d in plan.dimensions):
        return None
    factor = math.prod(float(d.value[0]) for d in plan.dimensions)
    return factor if math.frexp(factor)[0] == 0.5 else None


def _scaled_copies(rows: Tensor, rest: list[Dimension], factor: float) -> Tensor:
    """``factor * rows[..., source]``, written once where the copies are blocks of the last dimension."""
    copies = rest[-1].new // rest[-1].old if rest and tiled(rest[-1]) else 1
    for axis, dimension in enumerate(rest if copies == 1 else rest[:-1], 1):
        rows = take(rows, axis, dimension)
    block = rows.new_empty((*rows.shape[:-1], copies, rows.shape[-1]))
    torch.mul(rows.unsqueeze(-2).expand(block.shape), factor, out=block)
    return block.flatten(-2)


def _same_copies(block: Tensor, rows: Tensor, rest: list[Dimension], factor: float, fold: Fold) -> bool:
    """The fold where all weights carry one power of two: copies must be equal bit for bit, and one of them, scaled back, the old weight."""
    for axis, dimension in enumerate(rest, 1):
        if dimension.new != dimension.old:
            first, *others = _copies(block, axis, dimension)
            if not all(torch.equal(first, other) for other in others):
                fold.excess = math.inf
                return False
            block = first
    fold.square += _square(rows)
    back = block / factor
    if torch.equal(back, rows):
        return True
    # Only a weight below the smallest normal number can lose a bit to a power of two.
    lost = (back - rows).abs().to(torch.float64)
    if bool((lost > _smallest(rows.dtype) / min(factor, 1.0)).any()) or bool(lost.isnan().any()):
        fold.excess = math.inf
    fold.error = max(fold.error, float(lost.max()))
    fold.ulps = max(fold.ulps, float((lost / units(rows.to(torch.float64), rows.dtype)).max()))
    fold.lost += float((lost**2).sum())
    return False


def _copies(block: Tensor, axis: int, dimension: Dimension) -> list[Tensor]:
    """The copies along ``axis``, each in the order of the old coordinates; for equal counts, as views where they are blocks."""
    count = dimension.new // dimension.old
    if tiled(dimension):
        return list(block.split(dimension.old, axis))
    order = np.argsort(dimension.source, kind="stable").reshape(dimension.old, count)
    return [block.index_select(axis, torch.from_numpy(np.ascontiguousarray(order[:, i])).to(block.device)) for i in range(count)]


def _compare(block: Tensor, expected: Tensor, rest: list[Dimension], fold: Fold) -> None:
    """The fold in float64, against what rounding each weight once can explain."""
    wide = folded = block.to(torch.float64)
    summed = [(axis, d) for axis, d in enumerate(rest, 1) if d.summed and d.new != d.old]
    for axis, dimension in enumerate(rest, 1):
        if (axis, dimension) not in summed:
            expected = widened(expected, axis, dimension)
            continue
        folded = fold_dimension(folded, dimension, axis, exactly=block.dtype == torch.float64)
        if dimension.shift is not None:
            moved = np.bincount(dimension.source, dimension.gradient * dimension.shift, minlength=dimension.old)
            expected = expected + column(moved, expected.ndim, axis, expected)
    fold.square += _square(expected)
    if torch.equal(folded, expected):
        return
    fold.exact = False
    size, copies, largest = wide.abs(), 1, 1.0
    for axis, dimension in summed:
        size = fold_dimension(size, dimension, axis, np.abs(dimension.gradient))
        copies *= int(np.bincount(dimension.source).max())
        largest *= max(1.0, float(np.abs(dimension.gradient).max()))
    # Half a unit of each weight for the cast; and for float64 itself (factors, noise that may cancel, the sum) units of the largest.
    difference = (folded - expected).abs()
    own = 4 * (copies + 2) * torch.finfo(torch.float64).eps
    allowed = size * (torch.finfo(block.dtype).eps / 2) + own * float(size.max()) + _smallest(block.dtype) * copies * largest
    if (largest_expected := float(expected.abs().max())) > 0:
        fold.error = max(fold.error, float(difference.max()) / largest_expected)
    unit = units(torch.where(expected == 0, size, expected), block.dtype)
    fold.ulps = max(fold.ulps, float(((difference - own * size).clamp_(min=0.0) / unit).max()))
    fold.lost += float((difference**2).sum())
    worst = float((difference / allowed).max())
    fold.excess = math.inf if math.isnan(worst) else max(fold.excess, worst)


def _square(values: Tensor) -> float:
    """Sum of squares, to some six digits; in float32 where that holds it, for speed."""
    norm = float(torch.linalg.vector_norm(values, dtype=torch.float64 if values.dtype == torch.float64 else torch.float32))
    return (norm if math.isfinite(norm) else float(torch.linalg.vector_norm(values, dtype=torch.float64))) ** 2


def _smallest(dtype: torch.dtype) -> float:
    """The smallest number above zero: what rounding may cost a weight below the normal ones."""
    return torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps


def _mean_of_rows(old: Tensor) -> Tensor:
    """The mean over the first dimension, kept as a dimension of 1; a fixed number of rows at a time."""
    step = max(1, CHUNK // max(1, math.prod(old.shape[1:])))
    parts = [mean(old[start : start + step], 0) * len(old[start : start + step]) for start in range(0, len(old), step)]
    total: Tensor = sum(parts[1:], parts[0]) / len(old)
    return total


def _rows_of(old: Tensor, first: Dimension, start: int, stop: int) -> Tensor:
    """The source rows of new rows start..stop: a view where they are consecutive."""
    source = first.source[start:stop]
    if len(source) and bool((np.diff(source) == 1).all()):
        return old[int(source[0]) : int(source[0]) + len(source)]
    return old.index_select(0, torch.from_numpy(source).to(old.device))
