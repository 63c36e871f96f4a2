"""Copies of a weight that add up to the last bit.

Where the heard copies of a weight w have one gradient coefficient g, they must add up to ``t = w /
g``. Let T be t as the dtype of the result holds it, with p significant bits, and u the unit in the
last place of T. All copies are whole multiples of u, no larger than ``2**p u``, so that the dtype
holds every one of them and their sum is T: they are rounded such that their running sum is rounded,
and the last is what is missing from T. A copy is off by less than one unit from what was wanted.
What reaches too far for that (large noise on a small weight) is held back, by one factor for all
copies of that weight.

So T is the only rounding, and there is none if g and the other coefficients are powers of two and
the dtype is the source's: for any number of copies, where every share by itself (a third, or a half
and noise) would be rounded."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from growth.algebra.dimensions import Dimension, copy_table
from growth.algebra.maps import Floats
from growth.weights.blocks import column, put

EXPONENT = 0x7FF << 52
"""The bits of a float64 that hold its exponent."""


def ulps(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The unit in the last place of each float64 in ``dtype``, as float64; of 0 and of subnormal
    numbers, the smallest number there is."""
    info = torch.finfo(dtype)
    power = (values.view(torch.int64) & EXPONENT).view(torch.float64)  # 2**floor(log2 |value|)
    return (power * info.eps).clamp_(min=info.smallest_normal * info.eps)


class ExactSums:
    """The grid along one summed dimension.

    Args:
        dimension: the dimension, whose heard copies have a common gradient coefficient.
        axis: which one it is.
        ndim: how many the tensor has.
        offset: what the model adds to the stored weight: it multiplies by ``offset + w``.
        dtype: of the result.
        like: a tensor on the device.

    ``weights`` counts the weights that were laid out so far, ``limited`` those among them whose
    copies were held back."""

    def __init__(
        self, dimension: Dimension, axis: int, ndim: int, offset: float, dtype: torch.dtype, like: Tensor
    ) -> None:
        def along(values: np.ndarray) -> Tensor:
            return column(np.asarray(values, dtype=np.float64), ndim, axis, like.new_empty(0, dtype=torch.float64))

        gradient = dimension.common_gradient
        assert gradient is not None, "the copies of a weight differ in their gradient coefficients"
        self.axis, self.offset, self.dtype, self.along = axis, offset, dtype, along
        self.weights, self.limited = 0, 0
        self.turns = copy_table(dimension, determined_only=True)
        self.present = [positions >= 0 for positions in self.turns]
        self.counts = np.sum(self.present, axis=0)
        self.base = [self.of_turn(dimension.value * dimension.gradient, turn) for turn in range(len(self.turns))]
        self.alike = all(torch.equal(self.base[0], other) for other in self.base[1:])
        self.gradient = None if (gradient == 1).all() else along(gradient)
        moved = None if dimension.shift is None else dimension.shift * dimension.determined
        self.moved = None if moved is None else along(np.bincount(dimension.source, moved, minlength=dimension.old))

    def of_turn(self, values: Floats, turn: int) -> Tensor:
        """``values`` ``[new]`` of the copies of one turn, 0 for weights that have none then; shaped
        to broadcast."""
        return self.along(np.where(self.present[turn], values[self.turns[turn]], 0.0))

    def sums(self, expected: Tensor) -> tuple[Tensor, Tensor]:
        """(T, u) of every weight, float64; ``expected``: what the copies add up to, each times its
        gradient coefficient."""
        target = expected if self.gradient is None else expected / self.gradient
        if self.moved is not None:
            target = target + self.moved
        unit = ulps(target, self.dtype)
        return torch.round(target / unit).mul_(unit), unit

    def even(self, total: Tensor) -> list[Tensor]:
        """The copies of each turn as they are where nothing makes them differ."""
        return (
            [self.shared(total, self.base[:1])[0]] * len(self.turns) if self.alike else self.shared(total, self.base)
        )

    def shared(self, total: Tensor, shares: list[Tensor]) -> list[Tensor]:
        """The copies of each turn that have these ``shares`` of the sum."""
        if not self.offset:
            return [total * share for share in shares]
        whole = total + self.along(self.offset * self.counts)
        return [
            whole * share - self.offset * self.along(present)
            for share, present in zip(shares, self.present, strict=False)
        ]

    def lay(self, block: Tensor, total: Tensor, unit: Tensor, even: list[Tensor], wanted: list[Tensor]) -> None:
        """Write the copies into the block: as near as can be to those ``wanted``, which add up to T
        as the ``even`` ones do."""
        self.weights += total.numel()
        factor = self._held_back(unit, even, wanted)
        if factor is not None:
            self.limited += int((factor < 1).sum())
            wanted = [plain + factor * (want - plain) for plain, want in zip(even, wanted, strict=True)]
        running = placed = None
        for positions, want in zip(self.turns[:-1], wanted[:-1], strict=True):
            running = want if running is None else running + want
            reached = torch.round(running / unit).mul_(unit)
            put(block, self.axis, positions, reached if placed is None else reached - placed)
            placed = reached
        put(block, self.axis, self.turns[-1], total if placed is None else total - placed)

    def _held_back(self, unit: Tensor, even: list[Tensor], wanted: list[Tensor]) -> Tensor | None:
        """The factor on what makes copies differ that keeps all of them on the grid, None where
        nothing is held back."""
        info = torch.finfo(self.dtype)
        # Rounding takes a copy less than one unit further; where the dtype is float64, the
        # arithmetic on the way takes it a few.
        margin = max(1.0, 2.0**-48 / info.eps * len(wanted))
        room = (unit * (2 / info.eps)).clamp_(max=info.max) - unit * margin
        factor = None
        for plain, want in zip(even, wanted, strict=True):
            beyond = (want.abs() > room) & (want != plain)
            if bool(beyond.any()):
                held = torch.where(beyond, (torch.copysign(room, want) - plain) / (want - plain), 1.0).clamp_(min=0.0)
                factor = held if factor is None else torch.minimum(factor, held)
        return factor
