"""Copies of a weight that differ, and still add up to it to the last bit.

Let a weight w have copies that are read together. If g is the gradient coefficient they share, the
layer computes what it did before when the copies add up to ``w / g``. Call T this number rounded to
the dtype of the result, and u its unit in the last place (ulp). The dtype has p significant bits,
so it holds every multiple of u up to ``2**p * u``, or ``(2**p - 1) * u`` among its largest numbers.

*Round the running sum, not the copies.* With wanted copies ``c_0, c_1, ...`` that add up to T, and
``s_k = c_0 + ... + c_k``, copy k is

    round(s_k) - round(s_{k-1})         (round to multiples of u; s_{-1} = 0),

and the last copy is T minus the others. All copies are multiples of u, so the dtype holds each of
them, they add up to T, and each is off by less than one u.

Example: bfloat16, T = 1, u = 2**-7, three equal copies. The running sums are 42.7, 85.3 and 128 u,
rounded 43, 85 and 128, so the copies are 43, 42 and 43 u. (Three times 1/3 rounded by itself adds
up to 1.002.)

*Deviations that fit.* A wanted copy is ``e_k + a * d_k``: what it is where copies are equal, and a
deviation. Where large noise meets a small weight it may exceed what the dtype holds. Then the
amplitude a of that weight's deviations is reduced until ``max |e_k| + a * max |d_k|`` is two u
below ``2**p * u``: one for the rounding of the copy, one for the largest numbers.

*In which arithmetic.* Everything is counted in units of u. Where the dtype has 16 bits, running sums
are then integers far below ``2**24``, which float32 holds; otherwise they are float64.

T is the only rounding. There is none if g and the other coefficients are powers of two and the
result has the dtype of the source.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from growth.algebra.dimensions import Dimension
from growth.algebra.maps import Floats
from growth.plan.tensor_plan import TensorPlan
from growth.weights.blocks import PlacedCopies, column

EXPONENTS = {torch.float64: (torch.int64, 0x7FF << 52), torch.float32: (torch.int32, 0xFF << 23)}
"""The integers of the same size, and the bits in them that hold the exponent."""

SUMS = 2**20
"""Up to which number of u running sums are float32, which has 24 bits: what is rounded away before
a sum is rounded to whole u is far less than one."""

BOUNDLESS = 2.0**100
"""An amplitude in units of u beyond which any deviation is too large."""

Share = Tensor | float
"""Coefficients shaped to broadcast against a block; one number where they are equal."""


def ulps(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The unit in the last place that each float64 or float32 has in ``dtype``, in the dtype it
    comes in. Zero and subnormal numbers have the smallest number above zero.

    Example:
        >>> ulps(torch.tensor([1.0, 1.5, 2.0], dtype=torch.float64), torch.bfloat16).tolist()
        [0.0078125, 0.0078125, 0.015625]
    """
    info, (integers, exponent) = torch.finfo(dtype), EXPONENTS[values.dtype]
    power = (values.view(integers) & exponent).view(values.dtype)  # 2**floor(log2 |value|)
    return power.mul_(info.eps).clamp_(min=smallest(dtype))


def smallest(dtype: torch.dtype) -> float:
    """The smallest number above zero."""
    return torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps


def overflows(old: Tensor, plan: TensorPlan, dtype: torch.dtype) -> bool:
    """Whether some weight, times the largest factor that scales one before it is rounded, may be beyond
    the largest number of ``dtype``, or is NaN.

    Example:
        >>> from growth.algebra.roles import Keeps
        >>> plan = TensorPlan("w", "w", (2,), (Keeps(),), (Keeps().resolve(2, {}),))
        >>> [overflows(torch.tensor([1.0, 1e5]), plan, dtype) for dtype in (torch.bfloat16, torch.float16)]
        [False, True]
    """
    if not old.numel():
        return False
    factor = math.prod(float(np.abs(factors).max(initial=0.0)) for factors in plan.coefficients)
    largest = max(abs(float(end)) for end in old.aminmax()) * factor
    return not bool(torch.tensor(largest, dtype=torch.float64).to(dtype).isfinite())


class ExactSums:
    """The copies of some coordinates along one summed dimension of a tensor, and the sums they must
    have. All these coordinates have equally many copies.

    Blocks are ``[rows, ...]`` with the coordinates along ``axis`` before the copies are written,
    ``new`` after. Lists of blocks have one entry per copy.

    Args:
        dimension: the dimension; its determined copies have a common gradient coefficient.
        copies: the coordinates and their determined copies.
        axis: its place in the tensor.
        ndim: number of dimensions of the tensor.
        offset: what the model adds to the stored weight, where it multiplies by ``offset + w``.
        dtype: of the result.
        like: a tensor on the device to use.
    """

    def __init__(
        self,
        dimension: Dimension,
        copies: PlacedCopies,
        axis: int,
        ndim: int,
        offset: float,
        dtype: torch.dtype,
        like: Tensor,
    ) -> None:
        common = dimension.common_gradient
        assert common is not None, "the copies of a weight differ in their gradient coefficients"
        self.coordinates, self.positions = copies.coordinates, copies.positions
        self.axis, self.ndim, self.offset, self.dtype = axis, ndim, offset, dtype
        self.count = len(copies.positions)
        fits = self.count * 2 / torch.finfo(dtype).eps <= SUMS
        working = torch.float32 if torch.finfo(dtype).bits == 16 and fits and not offset else torch.float64
        self.like = like.new_empty(0, dtype=working)
        self.shares = self.of_each(dimension.value * dimension.gradient)
        gradient = common[copies.coordinates.positions]
        self.gradient = None if (gradient == 1).all() else self.along(gradient)
        shift = None if dimension.shift is None else dimension.shift * dimension.determined
        moved = None if shift is None else np.bincount(dimension.source, shift, dimension.old)
        self.shift = None if moved is None else self.along(moved[copies.coordinates.positions])
        # Rounding moves a copy by less than one u. Where the dtype is float64, the arithmetic before
        # it is no more precise than the result, and moves it by a few.
        self.margin = max(1.0, 2.0**-48 / torch.finfo(dtype).eps * self.count)
        self.largest = 2 / torch.finfo(dtype).eps - 1

    def along(self, values: np.ndarray) -> Share:
        """``values`` of the coordinates in float64, shaped to broadcast along the axis; one number
        where they are equal."""
        if len(values) and (values == values[0]).all():
            return float(values[0])
        return column(np.asarray(values, dtype=np.float64), self.ndim, self.axis, self.like.double())

    def of_each(self, values: Floats) -> list[Share]:
        """``values`` ``[new]`` at each copy, shaped to broadcast, in the dtype of the arithmetic."""
        each = [self.along(values[places.positions]) for places in self.positions]
        return [one if isinstance(one, float) else one.to(self.like.dtype) for one in each]

    def targets(self, expected: Tensor, shares: Sequence[Share], reach: float = 0.0) -> tuple[Tensor, Tensor]:
        """(T in units of u, u) of every weight.

        Args:
            expected: what the copies, each times its gradient coefficient, add up to.
            shares: of the copies. Where the model adds an offset to each, a copy may be larger than
                T (0.8 - 1 and 1.3 - 1 add up to 0.1). Then u is the ulp of the largest copy.
            reach: a weight of 0 has no ulp; it takes that of this number.
        """
        target = expected if self.gradient is None else expected / like(self.gradient, expected)
        if self.shift is not None:
            target = target + like(self.shift, expected)
        unit = ulps(target, self.dtype)
        if self.offset:
            copies = self.copies(target, torch.ones_like(target), shares)
            unit = torch.stack([unit, *(ulps(copy, self.dtype) for copy in copies)]).amax(0)
        if reach and unit.numel() and float(unit.amin()) <= smallest(self.dtype):
            reached = torch.tensor([min(reach, torch.finfo(self.dtype).max)], dtype=unit.dtype, device=unit.device)
            least = ulps(reached, self.dtype)
            unit = torch.maximum(unit, target.eq(0).to(unit.dtype) * least)
        working = self.like.dtype
        return (target / unit).round_().to(working), unit.to(working)

    def copies(self, total: Tensor, unit: Tensor, shares: Sequence[Share]) -> list[Tensor]:
        """The copies with these shares of ``total``: ``share * total``, and where the model adds an
        offset to each copy, ``share * (total + count * offset) - offset``. All in units of ``unit``."""
        if not self.offset:
            return [total * share for share in shares]
        offset = self.offset / unit
        return [(total + self.count * offset) * share - offset for share in shares]

    def equal_copies(self, total: Tensor, unit: Tensor) -> list[Tensor]:
        """The copies that add up to ``total`` where nothing makes them differ."""
        if all(isinstance(share, float) and share == self.shares[0] for share in self.shares):
            return self.copies(total, unit, self.shares[:1]) * self.count
        return self.copies(total, unit, self.shares)

    def beyond(self, unit: Tensor) -> bool:
        """Whether some T is larger than the numbers of the dtype, though its copies may not be."""
        return bool(unit.numel()) and float(unit.amax()) * self.largest > torch.finfo(self.dtype).max

    def amplitude(
        self, unit: Tensor, equal: Sequence[Tensor], deviations: Sequence[Tensor], wanted: Tensor | float
    ) -> Tensor:
        """The amplitude of the deviations of each weight, at most ``wanted``, with which every copy
        ``equal + amplitude * deviation`` fits. All in units of u. The last deviation is what the others
        leave: taken from what is drawn for it, it would differ from that by the rounding of their mean."""
        room = _largest(equal[:1] if equal[0] is equal[-1] else equal).neg_()
        if self.beyond(unit):
            room += (torch.finfo(self.dtype).max / unit).clamp_(max=self.largest) - self.margin
        else:
            room += self.largest - self.margin
        size = _largest(deviations)
        if len(deviations) > 1:
            size = torch.maximum(size, sum(deviations[1:], deviations[0]).abs_())
        room = room.clamp_(min=0.0).div_(size.clamp_(min=torch.finfo(room.dtype).tiny))
        return room.clamp_(max=wanted) if isinstance(wanted, float) else torch.minimum(room, wanted, out=room)

    def deviating(
        self, unit: Tensor, equal: Sequence[Tensor], deviations: Sequence[Tensor], wanted: Tensor | float
    ) -> tuple[list[Tensor], int]:
        """The copies but the last that deviate from equal ones by ``wanted`` times these deviations, or
        less; and the number of weights held back, where it is less."""
        allowed = self.amplitude(unit, equal, deviations, wanted)
        copies = [(allowed * by).add_(same) for same, by in zip(equal[:-1], deviations, strict=False)]
        fewer = allowed.lt_(wanted)  # in numbers, which are added up faster than truth values
        return copies, int(fewer.sum(dtype=fewer.dtype if fewer.numel() < 1 << 24 else torch.float64))

    def fill(self, block: Tensor, total: Tensor, unit: Tensor, wanted: Sequence[Tensor]) -> None:
        """Write the copies into ``block``, as near to ``wanted`` as their sum and dtype allow.

        Args:
            block: where to write, ``new`` coordinates along the axis.
            total, unit: T and u of every weight (`targets`).
            wanted: the copies asked for, but the last, in units of u.
        """
        running = written = None  # s_k, and round(s_{k-1})
        for places, want in zip(self.positions[:-1], wanted, strict=True):
            running = want if running is None else running + want
            rounded = running.round()
            places.put(block, self.axis, rounded * unit if written is None else (rounded - written).mul_(unit))
            written = rounded
        places, last = self.positions[-1], total * unit if written is None else (total - written).mul_(unit)
        places.put(block, self.axis, last)


def like(values: Share, block: Tensor) -> Share:
    """Coefficients in the dtype of a block."""
    return values if isinstance(values, float) else values.to(block.dtype)


def _largest(values: Sequence[Tensor]) -> Tensor:
    """The largest absolute value, one per weight."""
    largest = values[0].abs()
    for value in values[1:]:
        largest = torch.maximum(largest, value.abs())
    return largest
