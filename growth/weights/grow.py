"""A grown tensor, block by block: for a matrix

    new[i, j] = value_0[i] * value_1[j] * old[source_0[i], source_1[j]],

with the coefficients of its two dimensions (`growth.algebra.dimensions.Dimension`).

Memory does not depend on the size of a tensor: it is grown in blocks of rows, and every block is
read back (`growth.weights.fold`) before the next. Coefficients and products are float64 and every
weight is cast once, at the end. Where all coefficients multiply to one power of two, scaling is
exact in the dtype of the weights, and nothing is cast.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from growth.algebra.dimensions import Dimension
from growth.algebra.roles import Keeps
from growth.plan.tensor_plan import TensorPlan
from growth.weights.blocks import column, mean, take, tiled, widened
from growth.weights.fold import Fold, compare_copies, compare_sums
from growth.weights.symmetry_breaking import CHUNK, SymmetryBreaking

BLOCK = 1 << 21
"""Elements worked on at a time."""


def grow_tensor(
    old: Tensor, plan: TensorPlan, dtype: torch.dtype | None = None, *, seed: int = 0, fold: Fold | None = None
) -> Tensor:
    """The grown tensor, whole. Arguments as for `grow_blocks`.

    Example:
        A weight ``[out, in]`` whose input is repeated once, so that each copy is read by half of
        it:

        >>> from growth.algebra.axes import Space
        >>> from growth.algebra.maps import Map
        >>> from growth.algebra.roles import Reads
        >>> hidden = Space("hidden", "hidden_size")
        >>> roles = (Keeps(), Reads(hidden))
        >>> maps = {hidden: Map.repeat(2, 4)}
        >>> dimensions = tuple(role.resolve(2, maps) for role in roles)
        >>> plan = TensorPlan("w", "w", (2, 2), roles, dimensions)
        >>> grow_tensor(torch.tensor([[2.0, 4.0], [6.0, 8.0]]), plan).tolist()
        [[1.0, 2.0, 1.0, 2.0], [3.0, 4.0, 3.0, 4.0]]
    """
    new = torch.empty(plan.new_shape, dtype=dtype or old.dtype, device=old.device)
    for start, block in grow_blocks(old, plan, new.dtype, seed=seed, fold=fold):
        (new if new.ndim else new[None])[start : start + len(block)] = block
    return new


def grow_blocks(
    old: Tensor, plan: TensorPlan, dtype: torch.dtype, *, seed: int = 0, fold: Fold | None = None
) -> Iterator[tuple[int, Tensor]]:
    """(first row, rows) of the grown tensor, in order.

    Args:
        old: the source tensor, of shape ``plan.shape``.
        plan: its plan.
        dtype: of the result.
        seed: for what is drawn, where the copies are to differ.
        fold: where to record what reading every block back found; None to read nothing back.
    """
    if fold is not None:
        fold.tensors += 1
    if not plan.dimensions:  # a scalar is grown as a vector of length 1
        old, plan = old[None], replace(plan, shape=(1,), roles=(Keeps(),), dimensions=(Keeps().resolve(1, {}),))
    if plan.unchanged and dtype == old.dtype:
        step = _rows_per_block(plan)
        yield from ((start, old[start : start + step].contiguous()) for start in range(0, len(old), step))
        return
    if not plan.dimensions[0].summed:
        yield from _blocks(old, plan, dtype, seed, fold)
        return
    # The copies that are summed must lie in one block of rows: grow the transpose.
    transposed = plan.transposed
    turned = torch.empty(transposed.new_shape, dtype=dtype, device=old.device)
    for start, block in _blocks(
        old[None] if old.ndim == 1 else old.permute(*reversed(range(old.ndim))), transposed, dtype, seed, fold
    ):
        turned[start : start + len(block)] = block
    whole = turned[0] if old.ndim == 1 else turned.permute(*reversed(range(old.ndim)))
    step = _rows_per_block(plan)
    for start in range(0, len(whole), step):
        yield start, whole[start : start + step].contiguous()


def _rows_per_block(plan: TensorPlan) -> int:
    return max(1, BLOCK // max(1, math.prod(plan.new_shape[1:])))


def _blocks(
    old: Tensor, plan: TensorPlan, dtype: torch.dtype, seed: int, fold: Fold | None
) -> Iterator[tuple[int, Tensor]]:
    """`grow_blocks` for a tensor that grows and whose first dimension is not summed."""
    first, *rest = plan.dimensions
    breaking = SymmetryBreaking(old, plan, dtype, seed) if plan.symmetry.breaks else None
    factor = _uniform_power_of_two(plan) if dtype == old.dtype else None
    average = _mean_of_rows(old) if first.averages else None
    step = _rows_per_block(plan)
    for start in range(0, first.new, step):
        stop = min(start + step, first.new)
        rows = _source_rows(old, first, start, stop)
        if factor is not None:
            block = _scaled_copies(rows, rest, factor)
            if fold is not None:
                compare_copies(block, rows, rest, factor, fold)
        else:
            expected = _grown_rows(rows, average, first, start, stop)
            wide = expected
            for axis, dimension in enumerate(rest, 1):
                if breaking is None or not dimension.summed or not dimension.grows:
                    wide = widened(wide, axis, dimension)
            block = wide.to(dtype) if breaking is None else breaking(wide.contiguous(), start)
            if fold is not None:
                compare_sums(block, expected, rest, fold)
        yield start, block
    if fold is not None and breaking is not None and breaking.sums is not None:
        fold.differing += breaking.sums.differing
        fold.held_back += breaking.sums.held_back


def _uniform_power_of_two(plan: TensorPlan) -> float | None:
    """The factor of every new weight, where that is one power of two, all old coordinates have
    equally many copies, and copies are equal; else None."""
    if plan.symmetry.breaks or any(d.shift is not None or d.averages for d in plan.dimensions):
        return None
    if any(np.ptp(np.bincount(d.source)) != 0 for d in plan.dimensions):
        return None
    if any(np.ptp(factors) != 0 for factors in plan.coefficients):
        return None
    factor = math.prod(float(factors[0]) for factors in plan.coefficients)
    return factor if math.frexp(factor)[0] == 0.5 else None


def _scaled_copies(rows: Tensor, rest: list[Dimension], factor: float) -> Tensor:
    """``factor * rows[..., source]``, written once where the copies are whole blocks along the last
    dimension."""
    copies = rest[-1].new // rest[-1].old if rest and tiled(rest[-1]) else 1
    for axis, dimension in enumerate(rest if copies == 1 else rest[:-1], 1):
        rows = take(rows, axis, dimension)
    block = rows.new_empty((*rows.shape[:-1], copies, rows.shape[-1]))
    torch.mul(rows.unsqueeze(-2).expand(block.shape), factor, out=block)
    return block.flatten(-2)


def _mean_of_rows(old: Tensor) -> Tensor:
    """The mean over the first dimension in float64, ``[1, ...]``, from a fixed number of rows at a
    time."""
    step = max(1, CHUNK // max(1, math.prod(old.shape[1:])))
    parts = [mean(old[start : start + step], 0) * len(old[start : start + step]) for start in range(0, len(old), step)]
    total: Tensor = sum(parts[1:], parts[0]) / len(old)
    return total


def _source_rows(old: Tensor, first: Dimension, start: int, stop: int) -> Tensor:
    """The source rows of new rows ``start`` to ``stop``: a view where they are consecutive."""
    source = first.source[start:stop]
    if len(source) and bool((np.diff(source) == 1).all()):
        return old[int(source[0]) : int(source[0]) + len(source)]
    return old.index_select(0, torch.from_numpy(source).to(old.device))


def _grown_rows(rows: Tensor, average: Tensor | None, first: Dimension, start: int, stop: int) -> Tensor:
    """New rows ``start`` to ``stop`` in float64, grown along the first dimension only.

    Args:
        rows: their source rows.
        average: the mean of all source rows, where some new rows are that mean.
    """
    grown = rows.to(torch.float64)
    if average is not None:
        grown = torch.where(column(first.means[start:stop], rows.ndim, 0, grown) != 0, average, grown)
    grown = grown * column(first.value[start:stop], rows.ndim, 0, grown)
    if first.shift is not None:
        grown = grown + column(first.shift[start:stop], rows.ndim, 0, grown)
    return grown
