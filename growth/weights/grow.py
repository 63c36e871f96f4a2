"""The only arithmetic on weights: ``new[j0, j1] = value_0[j0] value_1[j1] old[source_0[j0],
source_1[j1]]``, and its inverse, the fold.

Both go through a tensor in blocks of rows, so that memory does not depend on its size. Coefficients
are float64 and every weight is cast once, at the end; where the coefficients are one power of two,
scaling is exact in the weight's own dtype and needs no cast.

The fold reads a grown block back: along a dimension that is summed, the copies of a weight, each
times its gradient coefficient (what the activation it is read with carries), must add up to that
weight. That is the condition for the layer to compute the same outputs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from growth.algebra.dimensions import Dimension
from growth.algebra.roles import Keeps
from growth.plan.plan import TensorPlan
from growth.weights.blocks import column, mean, take, tiled, widened
from growth.weights.fold import Fold, _compare, _same_copies
from growth.weights.symmetry_breaking import CHUNK, SymmetryBreaking

BLOCK = 1 << 21
"""Elements worked on at a time."""


def grow_tensor(
    old: Tensor, plan: TensorPlan, dtype: torch.dtype | None = None, *, seed: int = 0, fold: Fold | None = None
) -> Tensor:
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
    if plan.unchanged and dtype == old.dtype:
        yield from (
            (start, old[start : start + _rows(plan)].contiguous()) for start in range(0, len(old), _rows(plan))
        )
        return
    if not plan.dimensions[0].summed:
        yield from _blocks(old, plan, dtype, seed, fold)
        return
    # Copies that are summed must lie in one block: work on the transpose.
    transposed = plan.transposed
    turned = torch.empty(transposed.new_shape, dtype=dtype, device=old.device)
    for start, block in _blocks(
        old[None] if old.ndim == 1 else old.permute(*reversed(range(old.ndim))), transposed, dtype, seed, fold
    ):
        turned[start : start + len(block)] = block
    whole = turned[0] if old.ndim == 1 else turned.permute(*reversed(range(old.ndim)))
    step = _rows(plan)
    for start in range(0, len(whole), step):
        yield start, whole[start : start + step].contiguous()


def _rows(plan: TensorPlan) -> int:
    return max(1, BLOCK // max(1, math.prod(plan.new_shape[1:])))


def _blocks(
    old: Tensor, plan: TensorPlan, dtype: torch.dtype, seed: int, fold: Fold | None
) -> Iterator[tuple[int, Tensor]]:
    first, *rest = plan.dimensions
    shares = SymmetryBreaking(old, plan, dtype, seed) if plan.symmetry.breaks else None
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
    """The one factor of every weight, if it is a power of two, counts are equal and so are
    copies."""
    if plan.symmetry.breaks or any(d.shift is not None or d.averages for d in plan.dimensions):
        return None
    if any(np.ptp(np.bincount(d.source)) != 0 for d in plan.dimensions):
        return None
    if any(np.ptp(factors) != 0 for factors in plan.coefficients):
        return None
    factor = math.prod(float(factors[0]) for factors in plan.coefficients)
    return factor if math.frexp(factor)[0] == 0.5 else None


def _scaled_copies(rows: Tensor, rest: list[Dimension], factor: float) -> Tensor:
    """``factor * rows[..., source]``, written once where the copies are blocks of the last
    dimension."""
    copies = rest[-1].new // rest[-1].old if rest and tiled(rest[-1]) else 1
    for axis, dimension in enumerate(rest if copies == 1 else rest[:-1], 1):
        rows = take(rows, axis, dimension)
    block = rows.new_empty((*rows.shape[:-1], copies, rows.shape[-1]))
    torch.mul(rows.unsqueeze(-2).expand(block.shape), factor, out=block)
    return block.flatten(-2)


def _mean_of_rows(old: Tensor) -> Tensor:
    """The mean over the first dimension, kept as a dimension of 1; a fixed number of rows at a
    time."""
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
