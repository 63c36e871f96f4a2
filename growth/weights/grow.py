"""A grown tensor, block by block: for a matrix

    new[i, j] = value_0[i] * value_1[j] * old[source_0[i], source_1[j]],

with the coefficients of its two dimensions (`growth.algebra.dimensions.Dimension`).

Memory does not depend on the size of a tensor: it is grown in blocks of rows, a few rows at a time,
which are read back (`growth.weights.reading_back`) while they are in the processor's cache.
Coefficients and products are float64 and every weight is cast once, at the end; float32 where that
holds them without rounding (16-bit weights and powers of two). Where all coefficients multiply to
one power of two, scaling is exact in the dtype of the weights, and nothing is cast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from growth.algebra.dimensions import Dimension
from growth.algebra.maps import Floats
from growth.algebra.roles import Keeps
from growth.plan.tensor_plan import TensorPlan
from growth.weights.blocks import Each, column, mean, take, tiled, widened
from growth.weights.draws import CHUNK
from growth.weights.fold import Fold
from growth.weights.reading_back import compare_copies, compare_sums
from growth.weights.symmetry_breaking import SymmetryBreaking

BLOCK = 1 << 21
"""Elements of a result that are handed on at a time."""

CACHED = 1 << 17
"""Weights worked on at a time, few enough for a processor's cache. Changes speed only."""


def grow_tensor(
    old: Tensor,
    plan: TensorPlan,
    dtype: torch.dtype | None = None,
    *,
    seed: int = 0,
    fold: Fold | None = None,
    each: Each = map,
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
    for start, block in grow_blocks(old, plan, new.dtype, seed=seed, fold=fold, each=each):
        (new if new.ndim else new[None])[start : start + len(block)] = block
    return new


def grow_blocks(
    old: Tensor, plan: TensorPlan, dtype: torch.dtype, *, seed: int = 0, fold: Fold | None = None, each: Each = map
) -> Iterator[tuple[int, Tensor]]:
    """(first row, rows) of the grown tensor, in order.

    Args:
        old: the source tensor, of shape ``plan.shape``.
        plan: its plan.
        dtype: of the result.
        seed: for what is drawn, where the copies are to differ.
        fold: where to record what reading every block back found; None to read nothing back.
        each: like `map`, for the work on all blocks. What it is ahead of the block that is asked for
            takes memory.
    """
    growing = growing_blocks(old, plan, dtype, seed=seed, reading_back=fold is not None, each=each)
    if fold is not None:
        fold.tensors += 1
    for start, (block, found) in zip(growing.starts, each(growing.block, growing.starts), strict=True):
        if fold is not None:
            fold.add(found)
        yield start, block


@dataclass(frozen=True, eq=False)
class Blocks:
    """A tensor about to grow, as blocks of rows. Each depends on its first row and on nothing that
    changes, so they may be computed in any order and at the same time.

    Args:
        starts: the first row of every block, in order.
        block: first row -> the rows, and what reading them back found.
    """

    starts: Sequence[int]
    block: Callable[[int], tuple[Tensor, Fold]]


def growing_blocks(
    old: Tensor, plan: TensorPlan, dtype: torch.dtype, *, seed: int = 0, reading_back: bool = True, each: Each = map
) -> Blocks:
    """Prepare the growth of a tensor: what all blocks share is computed here.

    Args:
        old: the source tensor, of shape ``plan.shape``.
        plan: its plan.
        dtype: of the result.
        seed: for what is drawn, where the copies are to differ.
        reading_back: whether every block is read back; if not, its fold is empty.
        each: like `map`, for the part of the work done here. Where copies are summed along the first
            dimension, that is all of it: they must lie in one block of rows, so the transpose is
            grown here and cut into the blocks that are asked for; where they are summed along the
            last dimension as well, or that is the only one, the tensor as one row.

    Example:
        On two threads; the result does not depend on their number:

        >>> from concurrent.futures import ThreadPoolExecutor
        >>> plan = TensorPlan("w", "w", (2,), (Keeps(),), (Keeps().resolve(2, {}),))
        >>> with ThreadPoolExecutor(2) as pool:
        ...     growing = growing_blocks(torch.tensor([2.0, 4.0]), plan, torch.float64, each=pool.map)
        ...     blocks, folds = zip(*pool.map(growing.block, growing.starts))
        >>> torch.cat(blocks).tolist(), Fold.merged([Fold(tensors=1), *folds]).exact
        ([2.0, 4.0], True)
    """
    if not plan.dimensions:  # a scalar is grown as a vector of length 1
        old, plan = old[None], replace(plan, shape=(1,), roles=(Keeps(),), dimensions=(Keeps().resolve(1, {}),))
    step = rows_per_block(plan)
    starts = range(0, plan.new_shape[0], step)
    if plan.unchanged and dtype == old.dtype:
        return Blocks(starts, lambda start: (old[start : start + step].contiguous(), Fold()))
    ends = [d.summed and d.grows for d in (plan.dimensions[0], plan.dimensions[-1])]
    if not ends[0] or (dtype == old.dtype and _uniform_power_of_two(plan) is not None):
        return Blocks(starts, _Rows(old, plan, dtype, seed, reading_back, each))
    # The rows of the transpose hold all copies that are summed, unless they are summed along its first dimension too.
    turn, turned_plan = (_in_one_row, plan.in_one_row) if ends[1] else (_transpose, plan.transposed)
    rows = _Rows(turn(old), turned_plan, dtype, seed, reading_back, each)
    whole = torch.empty(plan.new_shape, dtype=dtype, device=old.device)

    def fill(start: int) -> Fold:
        block, found = rows(start)
        turn(whole)[start : start + len(block)] = block
        return found

    fold = Fold.merged(each(fill, rows.starts))
    return Blocks(starts, lambda start: (whole[start : start + step], Fold() if start else fold))


def _transpose(tensor: Tensor) -> Tensor:
    return tensor.permute(tuple(reversed(range(tensor.ndim))))


def _in_one_row(tensor: Tensor) -> Tensor:
    return tensor[None]


def rows_per_block(plan: TensorPlan) -> int:
    """How many rows of a grown tensor are worked on at a time: at least one, however large that is."""
    return max(1, BLOCK // max(1, math.prod(plan.new_shape[1:])))


class _Rows:
    """`Blocks.block` for a tensor that grows, along whose first dimension no copies are summed or all
    are equal. Arguments as for `growing_blocks`."""

    def __init__(
        self, old: Tensor, plan: TensorPlan, dtype: torch.dtype, seed: int, reading_back: bool, each: Each
    ) -> None:
        self.old, self.plan, self.dtype, self.reading_back = old, plan, dtype, reading_back
        self.breaking = SymmetryBreaking(old, plan, dtype, seed, each) if plan.symmetry.breaks else None
        self.exact = plan.exact and dtype == old.dtype
        self.factor = _uniform_power_of_two(plan) if dtype == old.dtype else None
        self.working = torch.float32 if _float32_holds(old, plan, dtype) else torch.float64
        self.average = _mean_of_rows(old) if plan.dimensions[0].averages else None
        self.step = rows_per_block(plan)
        self.starts = range(0, plan.new_shape[0], self.step)

    def __call__(self, start: int) -> tuple[Tensor, Fold]:
        first, *rest = self.plan.dimensions
        stop = min(start + self.step, first.new)
        if self.factor is not None:
            rows = _source_rows(self.old, first, start, stop)
            block = _scaled_copies(rows, rest, self.factor)
            return block, compare_copies(block, rows, rest, self.factor) if self.reading_back else Fold()
        block = self.old.new_empty((stop - start, *self.plan.new_shape[1:]), dtype=self.dtype)
        draw = None if self.breaking is None else self.breaking.drawn(start, stop)
        few = max(1, CACHED // max(1, math.prod(self.plan.shape[1:])))
        folds = [
            self._few_rows(block, draw, start, slice(row, min(row + few, len(block))))
            for row in range(0, len(block), few)
        ]
        return block, Fold.merged(folds)

    def _few_rows(self, block: Tensor, draw: Tensor | None, start: int, rows: slice) -> Fold:
        """Write some rows of a block that starts at row ``start``, and read them back."""
        rest = self.plan.dimensions[1:]
        block = block[rows]
        expected = wide = self._grown_rows(start + rows.start, start + rows.stop)
        for axis, dimension in enumerate(rest, 1):
            if self.breaking is None or not dimension.summed or not dimension.grows:
                wide = widened(wide, axis, dimension)
        fold = Fold()
        if self.breaking is None:
            block.copy_(wide)
        else:
            fold = self.breaking(block, wide, None if draw is None else draw[rows])
        return Fold.merged([fold, compare_sums(block, expected, rest, self.exact)]) if self.reading_back else Fold()

    def _grown_rows(self, start: int, stop: int) -> Tensor:
        """New rows ``start`` to ``stop``, grown along the first dimension only."""
        first = self.plan.dimensions[0]
        grown = _source_rows(self.old, first, start, stop).to(self.working).contiguous()
        if self.average is not None:
            grown = torch.where(column(first.means[start:stop], grown.ndim, 0, grown) != 0, self.average, grown)
        if not (first.value[start:stop] == 1.0).all():
            grown = grown * column(first.value[start:stop], grown.ndim, 0, grown)
        if first.shift is not None:
            grown = grown + column(first.shift[start:stop], grown.ndim, 0, grown)
        return grown


def _float32_holds(old: Tensor, plan: TensorPlan, dtype: torch.dtype) -> bool:
    """Whether float32 holds what every weight and every sum of copies must be: 16 bits, times a power
    of two that makes none too large."""
    narrow = all(torch.finfo(one).bits == 16 for one in (old.dtype, dtype))
    return narrow and plan.exact and all(_moderate(factors) for factors in plan.coefficients)


def _moderate(factors: Floats) -> bool:
    """Whether all factors are 0, or of a size between 2**-4 and 1."""
    size = np.abs(factors)
    return bool(((size == 0) | ((size >= 2.0**-4) & (size <= 1))).all())


def _uniform_power_of_two(plan: TensorPlan) -> float | None:
    """The factor of every new weight, where that is one power of two, all old coordinates have
    equally many copies, and copies are equal; else None."""
    if 0 in plan.shape or plan.symmetry.breaks or any(d.shift is not None or d.averages for d in plan.dimensions):
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
