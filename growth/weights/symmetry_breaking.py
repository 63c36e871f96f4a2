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

Draws are seeded by (seed, tensor name, first row of a chunk of fixed size). They depend neither on
the order of tensors nor on shards, threads or block sizes.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from growth.algebra.dimensions import Dimension
from growth.algebra.maps import Floats
from growth.algebra.roles import Gain
from growth.algebra.shares import split_shares
from growth.plan.tensor_plan import TensorPlan
from growth.weights.blocks import Each, column, fold_dimension, pick, put, widened
from growth.weights.exact_sums import ExactSums, ulps
from growth.weights.fold import Fold

CHUNK = 1 << 21
"""Elements drawn from one generator. Part of what a seed means: changing it changes every growth
that draws."""

CACHED = 1 << 17
"""Weights worked on at a time, few enough for a processor's cache. Changes speed only."""

REACH = 4.0
"""A weight of 0 has no ulp to round its copies to. It takes that of a number this many times the
RMS of the noise."""


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
        >>> SymmetryBreaking(old, plan, old.dtype, seed=0)(old.double(), start=0)[0]
        tensor([[1., 3.]])
    """

    def __init__(self, old: Tensor, plan: TensorPlan, dtype: torch.dtype, seed: int, each: Each = map) -> None:
        self.plan, self.dtype, self.seed, self.symmetry = plan, dtype, seed, plan.symmetry
        self.summed = [(axis, d) for axis, d in enumerate(plan.dimensions) if d.summed and d.grows]
        offset = next((role.offset for role in plan.roles if isinstance(role, Gain)), 0.0)
        self.scale = 0.0
        if self.symmetry.noise and self.summed:
            size = self.symmetry.noise * _grown_rms(old, plan, offset, each)
            self.scale = size / max(_projected_variance(self.summed), 1e-12) ** 0.5
        self.sums: ExactSums | None = None
        if (axis := plan.exact_sum_axis) is not None:
            dimension = plan.dimensions[axis]
            self.sums = ExactSums(dimension, axis, len(plan.shape), offset, dtype, old)
            shares = split_shares(dimension, *self.symmetry.shares, self.symmetry.level)
            self.split = [self.sums.in_row(row.positions, shares) for row in self.sums.rows]

    def __call__(self, expected: Tensor, start: int) -> tuple[Tensor, Fold]:
        """Rows of the grown tensor, in the dtype of the result, and how many of their weights were
        to have copies that differ, and were held back.

        Args:
            expected: these rows in float64, grown along every dimension but the summed ones.
            start: the first of them.
        """
        draws = self.symmetry.noise or self.symmetry.varied
        draw = self._draw(start, start + len(expected), expected.device) if draws else None
        if self.sums is None:
            return self._rounded(expected, draw).to(self.dtype), Fold()
        shape = list(expected.shape)
        shape[self.sums.axis] = self.plan.dimensions[self.sums.axis].new
        block = expected.new_empty(shape, dtype=self.dtype)
        step = max(1, CACHED // max(1, expected[:1].numel()))
        held_back = 0
        for first in range(0, len(block), step):
            rows = slice(first, first + step)
            drawn = None if draw is None else draw[rows]
            held_back += self._determined_copies(block[rows], self.sums, expected[rows], drawn)
        self._undetermined_copies(block, self.sums, expected, draw)
        return block, Fold(differing=expected.numel(), held_back=held_back)

    def _determined_copies(self, block: Tensor, sums: ExactSums, expected: Tensor, draw: Tensor | None) -> int:
        """Write the copies that add up to the old weight, one array per row of the copy table.
        Returns the number of weights that are held back.

        With T the sum, d[k] what is drawn for copy k, and e[k] its share where copies are equal:

            split            share[k] * T
            varied split     d[k] / sum(d) * T
            noise            e[k] * T + scale * (d[k] - e[k] * sum(d))

        Example: two copies of T = 0.5 with noise of scale 0.1, d = (1, -0.4), e = (1/2, 1/2). Then
        sum(d) = 0.6 and the copies are 0.25 + 0.1 * 0.7 = 0.32 and 0.25 - 0.1 * 0.7 = 0.18.
        """
        total, unit = sums.targets(expected, self.split)
        equal = sums.equal_copies(total)
        if draw is None:
            return sums.fill(block, total, unit, equal, sums.copies(total, self.split))
        drawn = [self._drawn_in_row(draw, sums, row) for row in range(len(sums.rows))]
        sum_drawn = sum(drawn[1:], drawn[0])
        if self.symmetry.varied:
            return sums.fill(block, total, unit, equal, sums.copies(total, [part / sum_drawn for part in drawn]))
        unit = torch.where(total == 0, ulps(total.new_tensor([REACH * self.scale]), self.dtype), unit)
        noise = [
            (part - taken).mul_(self.scale) for part, taken in zip(drawn, sums.equal_parts(sum_drawn), strict=True)
        ]
        return sums.fill(block, total, unit, equal, [same + part for same, part in zip(equal, noise, strict=True)])

    def _drawn_in_row(self, draw: Tensor, sums: ExactSums, row: int) -> Tensor:
        """What is drawn for the copies in one row of the copy table, 0 where it has none."""
        copies = sums.rows[row]
        drawn = pick(draw, sums.axis, copies.positions).to(torch.float64)
        return drawn if copies.present.all() else drawn * sums.along(copies.present)

    def _undetermined_copies(self, block: Tensor, sums: ExactSums, expected: Tensor, draw: Tensor | None) -> None:
        """Write the copies that are in no sum: by the definition, plus all of the noise drawn for
        them, except where they are means."""
        dimension = self.plan.dimensions[sums.axis]
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
        wide = widened(expected, sums.axis, only)
        if draw is not None and self.scale:
            wide = wide + pick(draw, sums.axis, positions) * sums.along(self.scale * ~only.means)
        put(block, sums.axis, positions, wide)

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
            noise = noise - pick(sums, axis, dimension.source) * column(factors, noise.ndim, axis, noise)
            noise = noise * column((~dimension.means).astype(np.float64), noise.ndim, axis, noise)
        return wide + noise

    def _draw(self, start: int, stop: int, device: torch.device) -> Tensor:
        """Rows ``start`` to ``stop`` of what is drawn: standard normal numbers for noise, numbers
        between the two shares for a varied split."""
        rows = max(1, CHUNK // max(1, math.prod(self.plan.new_shape[1:])))
        chunks = [self._chunk(first, rows) for first in range(start - start % rows, stop, rows)]
        drawn = (chunks[0] if len(chunks) == 1 else torch.cat(chunks))[start % rows :][: stop - start].to(device)
        if not self.symmetry.varied:
            return drawn
        low, high = sorted(self.symmetry.shares)
        return low / high + (1 - low / high) * drawn.to(torch.float64)

    def _chunk(self, first: int, rows: int) -> Tensor:
        """Rows ``first`` to ``first + rows`` of uniform or normal numbers, from a generator seeded
        for them alone."""
        digest = hashlib.sha256(f"{self.seed}/{self.plan.canonical}/{first}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        height, *rest = self.plan.new_shape
        shape = (min(rows, height - first), *rest)
        drawn: Tensor = (
            torch.rand(shape, generator=generator) if self.symmetry.varied else torch.randn(shape, generator=generator)
        )
        return drawn


def _projected_variance(summed: list[tuple[int, Dimension]]) -> float:
    """The mean variance of standard normal noise after projection into the null space of the sum.

    Of ``N[j] - value[j] * sum(gradient * N)`` the variance is ``1 - 2 value[j] gradient[j] +
    value[j]**2 sum(gradient**2)``, the sum over the copies of one old coordinate."""
    variance = 1.0
    for _, d in summed:
        gradient, value = d.gradient * d.determined, d.value * d.determined
        squares = np.bincount(d.source, gradient**2, minlength=d.old)[d.source]
        variance *= float(np.mean(~d.means * (1 - 2 * value * gradient + value**2 * squares)))
    return variance


def _grown_rms(old: Tensor, plan: TensorPlan, offset: float, each: Each) -> float:
    """RMS of ``offset + w`` over the grown weights w without noise.

    Computed from the old weights: the square of each counts ``value**2`` times for every copy. The
    sum runs in one order whatever the layout, the number of threads and the device, and the result
    is rounded to 24 bits, so that a seed gives the same noise everywhere."""
    weights = [np.bincount(d.source, d.value**2, minlength=d.old) for d in plan.dimensions]
    step = max(1, CHUNK // max(1, math.prod(plan.shape[1:])))

    def sums(start: int) -> Floats:
        part = np.ascontiguousarray(old[start : start + step].to("cpu", torch.float64).numpy())
        part = (part + offset) ** 2
        for axis in range(part.ndim - 1, 0, -1):
            part = (part * weights[axis]).sum(axis=-1)
        return np.asarray(part * weights[0][start : start + step])

    total = math.fsum(value for part in each(sums, range(0, len(old), step)) for value in part)
    significand, exponent = math.frexp(math.sqrt(total / math.prod(plan.new_shape)))
    return math.ldexp(round(significand * (1 << 24)), exponent - 24)
