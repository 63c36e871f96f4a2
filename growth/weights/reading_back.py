"""Reading a block back through its maps, and comparing it with its source: see `growth.weights.fold`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from growth.algebra.dimensions import Dimension
from growth.algebra.maps import powers_of_two
from growth.weights.blocks import added_up, column, copies_of, fold_dimension, placed_copies, tiled, widened
from growth.weights.exact_sums import smallest, ulps
from growth.weights.fold import Fold


def compare_copies(block: Tensor, rows: Tensor, rest: Sequence[Dimension], factor: float) -> Fold:
    """Read back a block whose weights are all the old ones times one power of two: the copies must
    be equal bit for bit, and one of them, divided by the factor, the old weight.

    Args:
        block: grown rows.
        rows: the source rows, one for each of them.
        rest: the dimensions after the first.
        factor: the power of two.

    Example:
        >>> twice = Dimension(1, np.array([0, 0]), np.full(2, 0.5), np.ones(2), summed=True)
        >>> compare_copies(torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0]]), [twice], 0.5).exact
        True
    """
    for axis, dimension in enumerate(rest, 1):
        if dimension.new != dimension.old:
            first, *others = _copies(block, axis, dimension)
            if not all(same_bits(first, other) for other in others):
                return Fold(exact=False, excess=math.inf)
            block = first
    square, back = _square(rows), block / factor
    if same_bits(back, rows) and not math.isnan(square):
        return Fold(square=square)
    # Only a weight below the smallest normal number can lose a bit to a power of two.
    lost = (back - rows).abs().to(torch.float64)
    wrong = bool((lost > smallest(rows.dtype) / min(factor, 1.0)).any()) or bool(lost.isnan().any())
    return Fold(
        error=float(lost.max()),
        excess=math.inf if wrong else 0.0,
        exact=False,
        ulps=float((lost / ulps(rows.to(torch.float64), rows.dtype)).max()),
        square=square,
        lost=float((lost**2).sum()),
    )


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one shape and dtype are equal bit for bit: NaN is itself, 0 is not -0."""
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[one.dtype.itemsize]
    one, other = one.view(integers), other.view(integers)
    # torch.equal takes ten times as long as numpy for numbers of 16 bits
    return np.array_equal(one.numpy(), other.numpy()) if one.device.type == "cpu" else torch.equal(one, other)


def _copies(block: Tensor, axis: int, dimension: Dimension) -> list[Tensor]:
    """The k-th copy of every old coordinate, for each k; all have as many. Views where copies are
    whole blocks."""
    count = dimension.new // dimension.old
    if tiled(dimension):
        return list(block.split(dimension.old, axis))
    order = np.argsort(dimension.source, kind="stable").reshape(dimension.old, count)
    return [
        block.index_select(axis, torch.from_numpy(np.ascontiguousarray(order[:, i])).to(block.device))
        for i in range(count)
    ]


def compare_sums(block: Tensor, expected: Tensor, rest: Sequence[Dimension], exact: bool = False) -> Fold:
    """Read back a block: sums over copies along summed dimensions, copy by copy along
    others.

    Rounding each weight once explains a difference of

        eps / 2 * sum(|gradient * new|)          of the copies, each off by half an ulp
        + 4 (copies + 2) eps64 * max             of the float64 arithmetic on the way
        + smallest * copies * max(1, |gradient|) of subnormal weights

    where eps and smallest (the smallest number above zero) are those of the result's dtype. Where
    nothing is rounded, the last term alone is allowed: every sum must be the old weight bit for bit.
    Gradient coefficients that are not powers of two round as the sum is read, and have the second
    term as well, with the sum of this weight's own copies for max.

    Args:
        block: grown rows.
        expected: the same rows, grown along the first dimension only; float32 if it holds them
            without rounding, else float64.
        rest: the dimensions after the first.
        exact: whether growth rounds nothing (`growth.plan.tensor_plan.TensorPlan.exact`), and the
            result has the dtype of the source.

    Example:
        >>> twice = Dimension(1, np.array([0, 0]), np.full(2, 0.5), np.ones(2), summed=True)
        >>> compare_sums(torch.tensor([[0.25, 1.75]]), torch.tensor([[2.0]]), [twice]).exact
        True
    """
    summed = [(axis, d) for axis, d in enumerate(rest, 1) if d.summed and d.new != d.old]
    for axis, dimension in enumerate(rest, 1):
        if (axis, dimension) not in summed:
            expected = widened(expected, axis, dimension)
        elif dimension.shift is not None:
            moved = np.bincount(dimension.source, dimension.gradient * dimension.shift, minlength=dimension.old)
            expected = expected + column(moved, expected.ndim, axis, expected)
    if not summed:
        return _compared(lambda dtype: [block.to(dtype)], expected, _Allowance(block.dtype, exact))
    allowance = _Allowance(
        block.dtype,
        exact,
        largest=math.prod(max(1.0, float(np.abs(d.gradient).max())) for _, d in summed),
        reading_rounds=not all(powers_of_two(d.gradient).all() for _, d in summed),
    )
    (axis, dimension), *others = summed
    if others:
        return _folded_several_times(block, expected, summed, allowance)
    # Coordinates with equally many copies together: often only those with one of these numbers round.
    folds = []
    for group in placed_copies(dimension):
        copies = partial(copies_of, group, block, dimension, axis, None)
        folds.append(_compared(copies, group.coordinates.pick(expected, axis), allowance))
    return Fold.merged(folds)


@dataclass(frozen=True)
class _Allowance:
    """What explains a difference (`compare_sums`).

    Args:
        dtype: of the result.
        exact: whether growth rounds nothing.
        largest: gradient coefficient, at least 1.
        reading_rounds: whether a gradient coefficient is not a power of two.
    """

    dtype: torch.dtype
    exact: bool
    largest: float = 1.0
    reading_rounds: bool = False

    def limits(self, size: Tensor, copies: int) -> Tensor:
        """The largest difference allowed of each weight; overwrites ``size``, the sum of the absolute
        values of its copies."""
        subnormal, own = smallest(self.dtype) * copies * self.largest, _own(copies)
        if self.exact:
            return size.mul_(own if self.reading_rounds else 0.0).add_(subnormal)
        most = float(size.amax())
        return size.mul_(torch.finfo(self.dtype).eps / 2).add_(own * most + subnormal)


def _own(copies: int) -> float:
    """What float64 arithmetic may lose of a sum, relative to the size of its terms."""
    return 4 * (copies + 2) * torch.finfo(torch.float64).eps


def _compared(copies: Callable[[torch.dtype], list[Tensor]], expected: Tensor, allowance: _Allowance) -> Fold:
    """Read back weights from their copies.

    Args:
        copies: dtype -> the k-th copies of all weights in that dtype, each times its gradient
            coefficient, for each k.
        expected: what they must add up to.
        allowance: what explains a difference.
    """
    if expected.dtype == torch.float32:
        folded, lost = added_up(copies(torch.float32), exactly=True)
        difference = folded - expected
        if lost is not None:  # of a sum that is near what is expected, the difference is exact
            difference += lost
        if _all_zero(difference):
            return Fold(square=_square(expected))
        expected = expected.to(torch.float64)
    parts = copies(torch.float64)
    folded, lost = added_up(parts, exactly=allowance.exact or allowance.dtype == torch.float64)
    difference = folded - expected
    if lost is not None:
        difference += lost
    if _all_zero(difference):
        return Fold(square=_square(expected))
    size = parts[0].abs()
    for part in parts[1:]:
        size += part.abs()
    return _judged(difference.abs_(), size, expected, len(parts), allowance)


def _folded_several_times(
    block: Tensor, expected: Tensor, summed: Sequence[tuple[int, Dimension]], allowance: _Allowance
) -> Fold:
    """Read back weights whose copies are summed along several dimensions."""
    expected, folded = expected.to(torch.float64), block.to(torch.float64)
    size, copies = folded.abs(), 1
    exactly = allowance.exact or block.dtype == torch.float64
    for axis, dimension in summed:
        folded = fold_dimension(folded, dimension, axis, exactly=exactly)
        size = fold_dimension(size, dimension, axis, np.abs(dimension.gradient))
        copies *= int(np.bincount(dimension.source).max())
    difference = folded - expected
    if _all_zero(difference):
        return Fold(square=_square(expected))
    return _judged(difference.abs_(), size, expected, copies, allowance)


def _judged(difference: Tensor, size: Tensor, expected: Tensor, copies: int, allowance: _Allowance) -> Fold:
    """What a difference from what is expected amounts to (`compare_sums`); the first two arguments are
    overwritten."""
    off, least, last = (float(x) for x in (difference.amax(), *expected.aminmax()))
    square, lost, largest_expected = _square(expected), _square(difference), max(-least, last)
    unit = expected.abs().add_(size * expected.eq(0)) if least <= 0.0 <= last else expected
    beyond = float((difference - size * _own(copies)).div_(ulps(unit, allowance.dtype)).amax())
    worst = float(difference.div_(allowance.limits(size, copies)).amax())
    return Fold(
        error=off / largest_expected if largest_expected > 0 else 0.0,
        excess=math.inf if math.isnan(worst) else worst,
        exact=False,
        ulps=max(0.0, beyond),
        square=square,
        lost=lost,
    )


def _all_zero(values: Tensor) -> bool:
    return not values.numel() or (float(values.amin()) == 0.0 and float(values.amax()) == 0.0)


def _square(values: Tensor) -> float:
    """Sum of squares, to about six digits: in float32 for speed, unless that overflows."""
    norm = float(
        torch.linalg.vector_norm(values, dtype=torch.float64 if values.dtype == torch.float64 else torch.float32)
    )
    norm = norm if math.isfinite(norm) else float(torch.linalg.vector_norm(values, dtype=torch.float64))
    return norm * norm
