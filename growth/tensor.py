"""The only arithmetic on weights: ``new[j0, j1] = value_0[j0] value_1[j1] old[source_0[j0], source_1[j1]]``, and its inverse, the fold.

Both go through a tensor in blocks of rows, so that memory does not depend on its size. Coefficients are float64 and every weight is
cast once, at the end; where the coefficients are one power of two, scaling is exact in the weight's own dtype and needs no cast.

The fold reads a grown block back: summed over the copies that are read, each times what those activations carry (the dimension's
gradient coefficient), every row must be ``value * old row``. That is the condition for the layer to compute the same outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from growth.plan import TensorPlan
from growth.role import Dimension, Keeps
from growth.symmetry import NullSpaceNoise, column, fold_dimension

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
    """

    error: float = 0.0
    excess: float = 0.0
    exact: bool = True
    tensors: int = 0

    @property
    def ok(self) -> bool:
        """True if rounding each weight once explains everything."""
        return self.excess <= 1.0


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
        seed: of the noise, where the plan has any.
        fold: where to record what reading every block back found.
    """
    if fold is not None:
        fold.tensors += 1
    if not plan.dimensions:  # a scalar, as its only row
        old, plan = old[None], replace(plan, shape=(1,), roles=(Keeps(),), dimensions=(Keeps().resolve(1, {}),))
    if plan.kept and dtype == old.dtype:
        yield from ((start, old[start : start + _rows(plan)].contiguous()) for start in range(0, len(old), _rows(plan)))
        return
    if not plan.dimensions[0].reads:
        yield from _blocks(old, plan, dtype, seed, fold)
        return
    # Copies that are read together must lie in one block: work on the transpose.
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
    noise = NullSpaceNoise(old, plan, seed) if plan.noise else None
    factor = _uniform_power_of_two(plan) if dtype == old.dtype else None
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
            expected = expected * column(first.value[start:stop], rows.ndim, 0, expected)
            if first.shift is not None:
                expected = expected + column(first.shift[start:stop], rows.ndim, 0, expected)
            wide = expected
            for axis, dimension in enumerate(rest, 1):
                wide = _take(wide, axis, dimension) * column(dimension.value, wide.ndim, axis, wide)
            if noise is not None:
                wide = wide + noise(start, stop, old.device)
            block = wide.to(dtype)
            if fold is not None:
                _compare(block, expected, rest, fold)
        yield start, block


def _uniform_power_of_two(plan: TensorPlan) -> float | None:
    """The one factor of every weight, if it is a power of two, counts are equal and there is no noise."""
    if plan.noise or any(d.shift is not None for d in plan.dimensions):
        return None
    if not all(bool((d.value == d.value[0]).all()) and np.ptp(np.bincount(d.source)) == 0 for d in plan.dimensions):
        return None
    factor = math.prod(float(d.value[0]) for d in plan.dimensions)
    return factor if math.frexp(factor)[0] == 0.5 else None


def _scaled_copies(rows: Tensor, rest: list[Dimension], factor: float) -> Tensor:
    """``factor * rows[..., source]``, written once where the copies are blocks of the last dimension."""
    copies = rest[-1].new // rest[-1].old if rest and _tiled(rest[-1]) else 1
    for axis, dimension in enumerate(rest if copies == 1 else rest[:-1], 1):
        rows = _take(rows, axis, dimension)
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
    back = block / factor
    if torch.equal(back, rows):
        return True
    # Only a weight below the smallest normal number can lose a bit to a power of two.
    lost = (back - rows).abs().to(torch.float64)
    if bool((lost > _smallest(rows.dtype) / min(factor, 1.0)).any()) or bool(lost.isnan().any()):
        fold.excess = math.inf
    fold.error = max(fold.error, float(lost.max()))
    return False


def _copies(block: Tensor, axis: int, dimension: Dimension) -> list[Tensor]:
    """The copies along ``axis``, each in the order of the old coordinates; for equal counts, as views where they are blocks."""
    count = dimension.new // dimension.old
    if _tiled(dimension):
        return list(block.split(dimension.old, axis))
    order = np.argsort(dimension.source, kind="stable").reshape(dimension.old, count)
    return [block.index_select(axis, torch.from_numpy(np.ascontiguousarray(order[:, i])).to(block.device)) for i in range(count)]


def _compare(block: Tensor, expected: Tensor, rest: list[Dimension], fold: Fold) -> None:
    """The fold in float64, against what rounding each weight once can explain."""
    folded = block.to(torch.float64)
    size, copies, largest = folded.abs(), 1, 1.0
    for axis, dimension in enumerate(rest, 1):
        if dimension.reads and dimension.new != dimension.old:
            folded = fold_dimension(folded, dimension, axis)
            size = fold_dimension(size, _absolute(dimension), axis)
            copies *= int(np.bincount(dimension.source).max())
            largest *= max(1.0, float(np.abs(dimension.gradient).max()))
        else:
            expected = _take(expected, axis, dimension) * column(dimension.value, expected.ndim, axis, expected)
    # Half a unit of each weight for the cast; and for float64 itself (factors, noise that may cancel, the sum) units of the largest.
    difference = (folded - expected).abs()
    own = 4 * (copies + 2) * torch.finfo(torch.float64).eps * float(size.max()) if size.numel() else 0.0
    allowed = size * (torch.finfo(block.dtype).eps / 2) + own + _smallest(block.dtype) * copies * largest
    fold.exact &= bool((difference == 0).all())
    if difference.numel() and (largest_expected := float(expected.abs().max())) > 0:
        fold.error = max(fold.error, float(difference.max()) / largest_expected)
    worst = float((difference / allowed).max()) if difference.numel() else 0.0
    fold.excess = math.inf if math.isnan(worst) else max(fold.excess, worst)


def _smallest(dtype: torch.dtype) -> float:
    """The smallest number above zero: what rounding may cost a weight below the normal ones."""
    return torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps


def _absolute(dimension: Dimension) -> Dimension:
    return Dimension(dimension.old, dimension.source, dimension.value, np.abs(dimension.gradient), dimension.reads)


def _tiled(dimension: Dimension) -> bool:
    return dimension.new % dimension.old == 0 and bool((dimension.source == np.arange(dimension.new) % dimension.old).all())


def _rows_of(old: Tensor, first: Dimension, start: int, stop: int) -> Tensor:
    """The source rows of new rows start..stop: a view where they are consecutive."""
    source = first.source[start:stop]
    if len(source) and bool((np.diff(source) == 1).all()):
        return old[int(source[0]) : int(source[0]) + len(source)]
    return old.index_select(0, torch.from_numpy(source).to(old.device))


def _take(block: Tensor, axis: int, dimension: Dimension) -> Tensor:
    """``block[..., source, ...]`` along ``axis``; blocks of copies are plain memory copies."""
    if dimension.new == dimension.old and bool((np.diff(dimension.source) == 1).all()):
        return block
    if _tiled(dimension):
        return torch.cat([block] * (dimension.new // dimension.old), dim=axis)
    return block.index_select(axis, torch.from_numpy(dimension.source).to(block.device))
