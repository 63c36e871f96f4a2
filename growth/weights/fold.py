"""The fold: a grown tensor read back through its maps and compared with its source.

Along a summed dimension the copies of a weight, each times its gradient coefficient (the factor on
the activation that it multiplies), must add up to the old weight. Along other dimensions every copy
must be its old weight times its coefficient. The comparison allows for one rounding per weight and
nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from growth.algebra.dimensions import Dimension
from growth.errors import CheckpointError, ProofError
from growth.weights.blocks import column, fold_and_rest, fold_dimension, tiled, widened
from growth.weights.exact_sums import smallest, ulps


@dataclass
class Fold:
    """What reading grown tensors back found.

    Args:
        error: max ``|folded - expected|`` over max ``|expected|``, block by block.
        excess: the same difference in units of what rounding each weight once can explain; at most
            1 for a correct tensor.
        exact: True if every weight came back bit for bit.
        tensors: how many were read back.
        ulps: max ``|folded - expected|`` in ulps of the expected weight in the dtype of the result
            (of its copies, where it is 0), less what the float64 arithmetic itself may lose.
        square, lost: sum of ``expected**2`` and of ``(folded - expected)**2``.
        differing, held_back: number of weights whose copies were to differ, and of those among them
            whose copies differ less than asked for (`growth.weights.exact_sums`).

    Example:
        >>> fold = Fold(square=4.0, lost=4e-6, differing=200, held_back=3)
        >>> fold.rms, fold.limited, fold.ok
        (0.001, 0.015, True)
        >>> Fold.merged([Fold(tensors=1), Fold(error=0.5), Fold(error=0.25, exact=False)])
        Fold(error=0.5, excess=0.0, exact=False, tensors=1, ulps=0.0, square=0.0, lost=0.0, differing=0, held_back=0)
    """

    error: float = 0.0
    excess: float = 0.0
    exact: bool = True
    tensors: int = 0
    ulps: float = 0.0
    square: float = 0.0
    lost: float = 0.0
    differing: int = 0
    held_back: int = 0

    @classmethod
    def merged(cls, folds: Iterable[Fold]) -> Fold:
        """What reading back all of them found. Floats are added up in the order given."""
        whole = cls()
        for fold in folds:
            whole.add(fold)
        return whole

    def add(self, other: Fold) -> None:
        """Take in what reading back something else found."""
        self.error, self.excess = max(self.error, other.error), max(self.excess, other.excess)
        self.exact = self.exact and other.exact
        self.tensors += other.tensors
        self.ulps = max(self.ulps, other.ulps)
        self.square += other.square
        self.lost += other.lost
        self.differing += other.differing
        self.held_back += other.held_back

    @property
    def ok(self) -> bool:
        """True if rounding each weight once explains every difference."""
        return self.excess <= 1.0

    @property
    def rms(self) -> float:
        """RMS of ``folded - expected`` over that of ``expected``, all tensors together. Three
        digits: the last ones of a sum of floats depend on the number of threads."""
        return float(f"{math.sqrt(self.lost / self.square):.3g}") if self.square else 0.0

    @property
    def limited(self) -> float:
        """Of the weights whose copies were to differ, the share whose copies differ less than asked
        for."""
        return self.held_back / self.differing if self.differing else 0.0

    def to_json(self) -> dict[str, float | bool | int]:
        """The figures that reports show."""
        return {
            "tensors": self.tensors,
            "exact": self.exact,
            "error": self.error,
            "rms": self.rms,
            "ulps": self.ulps,
            "excess": self.excess,
            "limited": self.limited,
        }


def compare_copies(block: Tensor, rows: Tensor, rest: Sequence[Dimension], factor: float) -> Fold:
    """Read back a block whose weights are all the old ones times one power of two: the copies must
    be equal bit for bit, and one of them, divided by the factor, the old weight.

    Args:
        block: grown rows.
        rows: the source rows, one for each of them.
        rest: the dimensions after the first.
        factor: the power of two.
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


def compare_sums(block: Tensor, expected: Tensor, rest: Sequence[Dimension]) -> Fold:
    """Read back a block: sums over copies along summed dimensions, copy by copy along
    others.

    Rounding each weight once explains a difference of

        eps / 2 * sum(|gradient * new|)          of the copies, each off by half an ulp
        + 4 (copies + 2) eps64 * max             of the float64 arithmetic on the way
        + smallest * copies * max(1, |gradient|) of subnormal weights

    where eps and smallest (the smallest number above zero) are those of the result's dtype.

    Args:
        block: grown rows.
        expected: the same rows, grown along the first dimension only; float32 if it holds them
            without rounding, else float64.
        rest: the dimensions after the first.
    """
    summed = [(axis, d) for axis, d in enumerate(rest, 1) if d.summed and d.new != d.old]
    if expected.dtype == torch.float32:
        if (square := _square_if_equal(block, expected, rest, summed)) is not None:
            return Fold(square=square)
        expected = expected.to(torch.float64)
    wide = folded = block.to(torch.float64)
    for axis, dimension in enumerate(rest, 1):
        if (axis, dimension) not in summed:
            expected = widened(expected, axis, dimension)
            continue
        folded = fold_dimension(folded, dimension, axis, exactly=block.dtype == torch.float64)
        if dimension.shift is not None:
            moved = np.bincount(dimension.source, dimension.gradient * dimension.shift, minlength=dimension.old)
            expected = expected + column(moved, expected.ndim, axis, expected)
    square = _square(expected)
    if torch.equal(folded, expected):
        return Fold(square=square)
    size, copies, largest = wide.abs(), 1, 1.0
    for axis, dimension in summed:
        size = fold_dimension(size, dimension, axis, np.abs(dimension.gradient))
        copies *= int(np.bincount(dimension.source).max())
        largest *= max(1.0, float(np.abs(dimension.gradient).max()))
    difference = (folded - expected).abs()
    own = 4 * (copies + 2) * torch.finfo(torch.float64).eps
    allowed = (
        size * (torch.finfo(block.dtype).eps / 2) + own * float(size.amax()) + smallest(block.dtype) * copies * largest
    )
    largest_expected, worst = float(expected.abs().amax()), float((difference / allowed).amax())
    unit = ulps(expected.abs().add_(size * expected.eq(0)), block.dtype)
    return Fold(
        error=float(difference.amax()) / largest_expected if largest_expected > 0 else 0.0,
        excess=math.inf if math.isnan(worst) else worst,
        exact=False,
        ulps=float(((difference - own * size).clamp_(min=0.0) / unit).amax()),
        square=square,
        lost=float((difference**2).sum()),
    )


def _square_if_equal(
    block: Tensor, expected: Tensor, rest: Sequence[Dimension], summed: Sequence[tuple[int, Dimension]]
) -> float | None:
    """The sum of squares of what is expected, if float32 shows that every sum is what it must be to
    the last bit; None if it does not."""
    if len(summed) > 1:
        return None
    folded, lost = block.to(torch.float32), None
    for axis, dimension in enumerate(rest, 1):
        if (axis, dimension) not in summed:
            expected = widened(expected, axis, dimension)
            continue
        folded, lost = fold_and_rest(folded, dimension, axis)
    difference = folded - expected
    if lost is not None:  # of a sum that is near what is expected, the difference is exact
        difference += lost
    equal = not difference.numel() or (float(difference.amin()) == 0.0 and float(difference.amax()) == 0.0)
    return _square(expected) if equal else None


def _square(values: Tensor) -> float:
    """Sum of squares, to about six digits: in float32 for speed, unless that overflows."""
    norm = float(
        torch.linalg.vector_norm(values, dtype=torch.float64 if values.dtype == torch.float64 else torch.float32)
    )
    norm = norm if math.isfinite(norm) else float(torch.linalg.vector_norm(values, dtype=torch.float64))
    return norm * norm


def check_finite(name: str, tensor: Tensor, allow_nonfinite: bool) -> bool:
    """Whether all weights are finite.

    Raises:
        CheckpointError: if some are not and ``allow_nonfinite`` is False.
    """
    finite = not tensor.numel() or all(
        math.isfinite(float(end)) for end in torch.aminmax(tensor)
    )  # NaN is both the smallest and the largest; no temporary tensor is made
    if not finite and not allow_nonfinite:
        raise CheckpointError(
            f"tensor '{name}' holds NaN or infinity. Repair the checkpoint, or carry them over with --allow-nonfinite."
        )
    return finite


def check_fold(name: str, fold: Fold, old: Tensor, dtype: torch.dtype) -> None:
    """Refuse a tensor that did not fold back to its source.

    Raises:
        CheckpointError: if ``dtype`` cannot hold the values.
        ProofError: if there is no such excuse.
    """
    if not fold.ok and not bool(old.to(dtype).isfinite().all()):
        raise CheckpointError(
            f"tensor '{name}' holds values beyond the largest {dtype}, {torch.finfo(dtype).max:.3g}. Use --dtype "
            "bfloat16 or float32."
        )
    if not fold.ok:
        raise ProofError(
            f"tensor '{name}' does not fold back to its source (relative difference {fold.error:.3g}), so nothing was "
            "kept. Please report this."
        )
