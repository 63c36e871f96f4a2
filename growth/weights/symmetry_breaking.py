"""Copies of a weight made to differ, without changing what the layer computes.

Equal copies get equal gradients and stay equal, so a model with equal copies trains like the small
one. Along a summed dimension (`growth.algebra.dimensions.Dimension`) the layer only depends on
``sum(gradient[j] * new[j])`` over the copies j of an old coordinate. That leaves two ways to make
copies differ:

* *noise* N from the null space of that sum: ``N[j] - value[j] * sum(gradient * N)``;
* a *split*: copy j gets a share s[j] of the sum, ``new[j] = s[j] / gradient[j] * old``, with shares
  that add up to 1.

Where a single dimension is summed, `growth.weights.exact_sums` rounds the copies so that their sum
is the old weight to the last bit. Otherwise each copy is rounded by itself. Copies whose gradient
is not determined do not enter the sum: they take any noise.

Both are drawn as whole numbers (`growth.weights.draws`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from growth.algebra.roles import Gain
from growth.algebra.shares import split_shares
from growth.plan.tensor_plan import TensorPlan
from growth.weights.blocks import Each, Places, column, fold_dimension, placed_copies, widened
from growth.weights.draws import SPREAD, drawn_rows, noise_scale
from growth.weights.exact_sums import BOUNDLESS, ExactSums, Share, overflows
from growth.weights.fold import Fold

REACH = 4.0
"""A weight of 0 has no ulp to round its copies to. It takes that of a number this many times the
RMS of the noise."""

TINY = 2.0**-100
"""Noise below it, in subnormal weights, is divided by u in float64."""


class SymmetryBreaking:
    """The arithmetic for one tensor whose copies are to differ. Calls change nothing in it, so that
    blocks may be computed in any order and at the same time.

    Args:
        old: the source tensor.
        plan: its plan; the first dimension is not summed.
        dtype: of the result.
        seed: the caller's.
        each: like `map`, for work on parts of the source tensor.

    Example:
        A weight of 4 with two copies that are read together, in shares of one to three:

        >>> from growth.algebra.axes import Space
        >>> from growth.algebra.maps import Map
        >>> from growth.algebra.roles import Keeps, Reads
        >>> from growth.plan.symmetry import Symmetry
        >>> hidden = Space("hidden", "hidden_size")
        >>> roles = (Keeps(), Reads(hidden))
        >>> dimensions = tuple(role.resolve(1, {hidden: Map.repeat(1, 2)}) for role in roles)
        >>> plan = TensorPlan("w", "w", (1, 1), roles, dimensions, Symmetry("split", shares=(1.0, 3.0)))
        >>> old = torch.tensor([[4.0]])
        >>> block = torch.empty(1, 2)
        >>> _ = SymmetryBreaking(old, plan, old.dtype, seed=0)(block, old.double(), None)
        >>> block
        tensor([[1., 3.]])
    """

    def __init__(self, old: Tensor, plan: TensorPlan, dtype: torch.dtype, seed: int, each: Each = map) -> None:
        self.plan, self.seed, self.symmetry, self.device = plan, seed, plan.symmetry, old.device
        self.summed = [(axis, d) for axis, d in enumerate(plan.dimensions) if d.summed and d.grows]
        offset = next((role.offset for role in plan.roles if isinstance(role, Gain)), 0.0)
        noisy = bool(self.symmetry.noise and self.summed)
        self.scale = noise_scale(old, plan, offset, each) if noisy else 0.0
        self.reach = REACH * SPREAD * self.scale
        # Of the whole tensor, so that no weight depends on those it is worked on with.
        self.overflows = self.symmetry.kind == "split" and overflows(old, plan, dtype)
        self.sums: list[tuple[ExactSums, list[Share]]] = []
        if (axis := plan.exact_sum_axis) is not None:
            dimension = plan.dimensions[axis]
            shares = split_shares(dimension, *self.symmetry.shares, self.symmetry.level)
            for copies in placed_copies(dimension, determined_only=True):
                sums = ExactSums(dimension, copies, axis, len(plan.shape), offset, dtype, old)
                self.sums.append((sums, sums.of_each(shares)))

    def drawn(self, start: int, stop: int) -> Tensor | None:
        """What is drawn for rows ``start`` to ``stop``; None for nothing."""
        draws = self.symmetry.noise or self.symmetry.varied
        return drawn_rows(self.plan, self.seed, start, stop).to(self.device) if draws else None

    def __call__(self, block: Tensor, expected: Tensor, draw: Tensor | None) -> Fold:
        """Write rows of the grown tensor, in the dtype of the result. Returns how many of their
        weights were to have copies that differ, and were held back.

        Args:
            block: where to write.
            expected: these rows grown along every dimension but the summed ones; float32 if it
                holds them without rounding, else float64.
            draw: what is drawn for them.
        """
        if not self.sums:
            block.copy_(self._rounded(expected, draw))
            return Fold()
        held_back = sum(self._determined_copies(block, expected, draw, *sums) for sums in self.sums)
        self._undetermined_copies(block, expected, draw)
        return Fold(differing=expected.numel(), held_back=held_back)

    def _determined_copies(
        self, block: Tensor, expected: Tensor, draw: Tensor | None, sums: ExactSums, split: Sequence[Share]
    ) -> int:
        """Write the copies that add up to the old weight, of coordinates with equally many.
        Returns the number of weights that are held back.

        With T the sum, d[k] what is drawn for copy k, and e[k] its share where copies are equal:

            split            share[k] * T
            varied split     d[k] / sum(d) * T
            noise            e[k] * T + scale * (d[k] - e[k] * sum(d))

        Example: two copies of T = 0.5 with noise of scale 0.1, d = (1, -0.4), e = (1/2, 1/2). Then
        sum(d) = 0.6 and the copies are 0.25 + 0.1 * 0.7 = 0.32 and 0.25 - 0.1 * 0.7 = 0.18.
        """
        weights = sums.coordinates.pick(expected, sums.axis)
        total, unit = sums.targets(weights, split, self.reach)
        if sums.count == 1:
            sums.fill(block, total, unit, [])
            return 0
        drawn = []
        if draw is not None:
            drawn = [places.pick(draw, sums.axis).to(total.dtype) for places in sums.positions]
            if self.symmetry.varied:
                low, high = sorted(self.symmetry.shares)
                drawn = [low / high + (1 - low / high) * (part + 32768) / 65536 for part in drawn]
            sum_drawn = sum(drawn[1:], drawn[0])
        if self.scale:
            fine = unit if self.scale > TINY else unit.to(torch.float64)
            amplitude: Tensor | float = (self.scale / fine).clamp_(max=BOUNDLESS).to(unit.dtype)
            deviations = [part.sub_(share * sum_drawn) for part, share in zip(drawn[:-1], sums.shares, strict=False)]
            equal = sums.equal_copies(total, unit)
        else:
            shares = [part / sum_drawn for part in drawn] if self.symmetry.varied else split
            wanted = sums.copies(total, unit, shares)
            if not sums.offset and not self.overflows:  # a share of T is no larger than T
                sums.fill(block, total, unit, wanted[:-1])
                return 0
            equal = sums.equal_copies(total, unit)
            amplitude = 1.0
            deviations = [want - same for want, same in zip(wanted[:-1], equal, strict=False)]
        wanted, held_back = sums.deviating(unit, equal, deviations, amplitude)
        sums.fill(block, total, unit, wanted)
        return held_back

    def _undetermined_copies(self, block: Tensor, expected: Tensor, draw: Tensor | None) -> None:
        """Write the copies that are in no sum: by the definition, plus all of the noise drawn for
        them, except where they are means."""
        axis = self.sums[0][0].axis
        dimension = self.plan.dimensions[axis]
        positions = np.flatnonzero(~dimension.determined)
        if not len(positions):
            return
        only = replace(
            dimension,
            source=dimension.source[positions],
            value=dimension.value[positions],
            gradient=dimension.gradient[positions],
            shift=None if dimension.shift is None else dimension.shift[positions],
            mean=None if dimension.mean is None else dimension.mean[positions],
        )
        places, wide = Places(positions), widened(expected.to(torch.float64), axis, only)
        if draw is not None and self.scale:
            factors = column(self.scale * ~only.means, wide.ndim, axis, wide)
            wide = wide + places.pick(draw, axis).to(wide.dtype) * factors
        places.put(block, axis, wide)

    def _rounded(self, expected: Tensor, draw: Tensor | None) -> Tensor:
        """The rows in float64, for copies that are rounded one by one: several dimensions are
        summed, or copies of a weight differ in their gradient coefficients. A varied split has even
        shares here."""
        wide = expected
        for axis, dimension in self.summed:
            if self.symmetry.kind == "split":
                shares = split_shares(dimension, *self.symmetry.shares, self.symmetry.level)
                shares = np.where(dimension.determined, shares, 1.0)
                divided = np.divide(shares, dimension.gradient, out=dimension.value.copy(), where=dimension.determined)
                dimension = replace(dimension, value=divided)
            wide = widened(wide, axis, dimension)
        if draw is None or not self.scale:
            return wide
        noise = draw.to(torch.float64) * self.scale
        for axis, dimension in self.summed:
            factors = dimension.value * dimension.determined
            sums = fold_dimension(noise, dimension, axis, dimension.gradient * dimension.determined)
            copies = sums.index_select(axis, torch.from_numpy(dimension.source).to(sums.device))
            noise = noise - copies * column(factors, noise.ndim, axis, noise)
            noise = noise * column((~dimension.means).astype(np.float64), noise.ndim, axis, noise)
        return wide + noise
