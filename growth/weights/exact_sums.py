"""Copies of a weight that differ, and still add up to it to the last bit.

Let a weight w have copies that are read together. If g is the gradient coefficient they share, the
layer computes what it did before when the copies add up to ``w / g``. Call T this number rounded to
the dtype of the result, and u its unit in the last place (ulp). The dtype has p significant bits,
so it holds every multiple of u up to ``2**p * u``.

*Round the running sum, not the copies.* With wanted copies ``c_0, c_1, ...`` that add up to T, and
``s_k = c_0 + ... + c_k``, copy k is

    round(s_k) - round(s_{k-1})         (round to multiples of u; s_{-1} = 0),

and the last copy is T minus the others. All copies are multiples of u, so the dtype holds each of
them, they add up to T, and each is off by less than one u.

Example: bfloat16, T = 1, u = 2**-7, three equal copies. The running sums are 42.7, 85.3 and 128 u,
rounded 43, 85 and 128, so the copies are 43, 42 and 43 u. (Three times 1/3 rounded by itself adds
up to 1.002.)

A wanted copy may exceed ``2**p * u``, where large noise meets a small weight. Then the deviations
of all copies of that weight from equal copies are scaled down by one factor until every copy fits.

T is the only rounding. There is none if g and the other coefficients are powers of two and the
result has the dtype of the source.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from growth.algebra.dimensions import Dimension, copy_table
from growth.algebra.maps import Booleans, Floats, Integers
from growth.weights.blocks import column, put

EXPONENT = 0x7FF << 52
"""The bits of a float64 that hold its exponent."""


def ulps(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The unit in the last place that each float64 has in ``dtype``, as float64. Zero and subnormal
    numbers have the smallest number above zero.

    Example:
        >>> ulps(torch.tensor([1.0, 1.5, 2.0], dtype=torch.float64), torch.bfloat16).tolist()
        [0.0078125, 0.0078125, 0.015625]
    """
    info = torch.finfo(dtype)
    power = (values.view(torch.int64) & EXPONENT).view(torch.float64)  # 2**floor(log2 |value|)
    return (power * info.eps).clamp_(min=info.smallest_normal * info.eps)


@dataclass(frozen=True, eq=False)
class CopyRow:
    """One row of the copy table (`growth.algebra.dimensions.copy_table`): at most one copy of each
    old coordinate.

    Args:
        positions: ``[old]``, the new coordinate of that copy; -1 for none.
        present: ``[old]``, where there is one.
        share: its share of the sum where all copies are equal, 0 where there is none; shaped to
            broadcast against a block.
    """

    positions: Integers
    present: Booleans
    share: Tensor


class ExactSums:
    """The copies along one summed dimension of a tensor, and the sums they must have.

    Blocks are ``[rows, ...]`` with ``old`` coordinates along ``axis`` before the copies are
    written, ``new`` after. Lists of blocks have one entry per row of the copy table.

    Args:
        dimension: the dimension; its determined copies have a common gradient coefficient.
        axis: its place in the tensor.
        ndim: number of dimensions of the tensor.
        offset: what the model adds to the stored weight, where it multiplies by ``offset + w``.
        dtype: of the result.
        like: a tensor on the device to use.
    """

    def __init__(
        self, dimension: Dimension, axis: int, ndim: int, offset: float, dtype: torch.dtype, like: Tensor
    ) -> None:
        gradient = dimension.common_gradient
        assert gradient is not None, "the copies of a weight differ in their gradient coefficients"
        self.axis, self.ndim, self.offset, self.dtype = axis, ndim, offset, dtype
        self.like = like.new_empty(0, dtype=torch.float64)
        table = copy_table(dimension, determined_only=True)
        self.rows = [
            CopyRow(positions, positions >= 0, self.in_row(positions, dimension.value * dimension.gradient))
            for positions in table
        ]
        self.counts = np.sum([row.present for row in self.rows], axis=0)
        self.equal_shares = all(torch.equal(self.rows[0].share, row.share) for row in self.rows[1:])
        self.gradient = None if (gradient == 1).all() else self.along(gradient)
        shift = None if dimension.shift is None else dimension.shift * dimension.determined
        self.shift = None if shift is None else self.along(np.bincount(dimension.source, shift, dimension.old))

    def along(self, values: np.ndarray) -> Tensor:
        """``values`` ``[old]`` in float64, shaped to broadcast along the axis."""
        return column(np.asarray(values, dtype=np.float64), self.ndim, self.axis, self.like)

    def in_row(self, positions: Integers, values: Floats) -> Tensor:
        """``values`` ``[new]`` at the copies of one row, 0 where it has none; shaped to
        broadcast."""
        return self.along(np.where(positions >= 0, values[positions], 0.0))

    def targets(self, expected: Tensor, shares: list[Tensor]) -> tuple[Tensor, Tensor]:
        """(T, u) of every weight, in float64.

        Args:
            expected: what the copies, each times its gradient coefficient, add up to.
            shares: of the copies. Where the model adds an offset to each, a copy may be larger than
                T (0.8 - 1 and 1.3 - 1 add up to 0.1). Then u is the ulp of the largest copy.
        """
        target = expected if self.gradient is None else expected / self.gradient
        if self.shift is not None:
            target = target + self.shift
        unit = ulps(target, self.dtype)
        if self.offset:
            unit = torch.stack([unit, *(ulps(copy, self.dtype) for copy in self.copies(target, shares))]).amax(0)
        return torch.round(target / unit).mul_(unit), unit

    def equal_copies(self, total: Tensor) -> list[Tensor]:
        """The copies that add up to ``total`` where nothing makes them differ."""
        if self.equal_shares:
            return self.copies(total, [self.rows[0].share]) * len(self.rows)
        return self.copies(total, [row.share for row in self.rows])

    def copies(self, total: Tensor, shares: list[Tensor]) -> list[Tensor]:
        """The copies with these shares of ``total``: ``share * total``, and where the model adds an
        offset to each copy, ``share * (total + count * offset) - offset``."""
        if not self.offset:
            return [total * share for share in shares]
        whole = total + self.along(self.offset * self.counts)
        return [
            whole * share - self.offset * self.along(row.present)
            for share, row in zip(shares, self.rows, strict=False)
        ]

    def equal_parts(self, total: Tensor) -> list[Tensor]:
        """``total`` in its equal shares, one per row, without regard to the offset."""
        if self.equal_shares:
            return [total * self.rows[0].share] * len(self.rows)
        return [total * row.share for row in self.rows]

    def fill(self, block: Tensor, total: Tensor, unit: Tensor, equal: list[Tensor], wanted: list[Tensor]) -> int:
        """Write the copies into ``block``, as near to ``wanted`` as their sum and dtype allow.
        Returns the number of weights that are held back: their copies differ less than asked for.

        Args:
            block: where to write, ``new`` coordinates along the axis.
            total, unit: T and u of every weight (`targets`).
            equal: the copies where nothing makes them differ; they add up to T.
            wanted: the copies asked for; they add up to T but for rounding.
        """
        held_back = 0
        factor = self._deviation_factor(unit, equal, wanted)
        if factor is not None:
            held_back = int((factor < 1).sum())
            wanted = [same + factor * (want - same) for same, want in zip(equal, wanted, strict=True)]
        running = written = None  # s_k, and round(s_{k-1})
        for row, want in zip(self.rows[:-1], wanted[:-1], strict=True):
            running = want if running is None else running + want
            rounded = torch.round(running / unit).mul_(unit)
            put(block, self.axis, row.positions, rounded if written is None else rounded - written)
            written = rounded
        put(block, self.axis, self.rows[-1].positions, total if written is None else total - written)
        return held_back

    def _deviation_factor(self, unit: Tensor, equal: list[Tensor], wanted: list[Tensor]) -> Tensor | None:
        """The factor on ``wanted - equal``, one per weight, with which every copy stays within
        ``2**p * u``. None where all of them do already."""
        info = torch.finfo(self.dtype)
        # Rounding moves a copy by less than one u. Where the dtype is float64, the arithmetic before
        # it is no more precise than the result, and moves it by a few.
        margin = max(1.0, 2.0**-48 / info.eps * len(wanted))
        largest = (unit * (2 / info.eps)).clamp_(max=info.max) - unit * margin
        factor = None
        for same, want in zip(equal, wanted, strict=True):
            beyond = (want.abs() > largest) & (want != same)
            if bool(beyond.any()):
                allowed = torch.where(beyond, (torch.copysign(largest, want) - same) / (want - same), 1.0)
                allowed = allowed.clamp_(min=0.0)
                factor = allowed if factor is None else torch.minimum(factor, allowed)
        return factor
