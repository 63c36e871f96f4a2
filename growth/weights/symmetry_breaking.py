"""The copies of a weight that are heard together, made to differ while what is heard stays.

Along a dimension that is summed (`growth.algebra.dimensions.Dimension`) the function depends on
``sum(gradient[j] * new[j])`` over the copies j of an old coordinate alone. *Noise* N lives in the
null space of that sum: ``N[j] <- N[j] - value[j] * sum(gradient * N)``. A *split* gives copy j the
share s[j] of the sum, ``new[j] = s[j] / gradient[j] * w``, with shares that add up to 1.
`growth.weights.exact_sums` rounds them without moving the sum.

Draws are seeded by (seed, tensor name, first row of a fixed chunk): independent of the order of
tensors, shards, threads and block sizes."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from growth.algebra.dimensions import Dimension, copy_table
from growth.algebra.maps import Floats
from growth.algebra.roles import Gain
from growth.plan.plan import TensorPlan
from growth.weights.blocks import column, fold_dimension, pick, put, widened
from growth.weights.exact_sums import ExactSums, ulps

CHUNK = 1 << 21
"""Elements drawn from one generator. Part of what a seed means: changing it changes every growth
that draws."""


CACHED = 1 << 17
"""Weights laid out at a time, few enough to stay in a processor's cache. It changes speed and
nothing else."""


REACH = 4.0
"""How far noise reaches on a weight of 0, which has no grid of its own, in units of its RMS."""


class SymmetryBreaking:
    """The arithmetic for one tensor whose symmetry is broken, and whose first dimension is not
    summed.

    Args:
        old: the source tensor.
        plan: its plan.
        dtype: of the result.
        seed: the caller's.
    """

    def __init__(self, old: Tensor, plan: TensorPlan, dtype: torch.dtype, seed: int) -> None:
        self.plan, self.dtype, self.seed, self.symmetry = plan, dtype, seed, plan.symmetry
        self.summed = [(axis, d) for axis, d in enumerate(plan.dimensions) if d.summed and d.grows]
        offset = next((role.offset for role in plan.roles if isinstance(role, Gain)), 0.0)
        noise = self.symmetry.noise if self.summed else 0.0
        self.scale = noise * _grown_rms(old, plan, offset) / max(_left(self.summed), 1e-12) ** 0.5 if noise else 0.0
        self.grid: ExactSums | None = None
        if plan.exact_sum_axis is not None:
            self.grid = ExactSums(
                plan.dimensions[plan.exact_sum_axis], plan.exact_sum_axis, len(plan.shape), offset, dtype, old
            )
            split = split_shares(plan.dimensions[plan.exact_sum_axis], *self.symmetry.shares)
            self.split = [self.grid.of_turn(split, turn) for turn in range(len(self.grid.turns))]

    def __call__(self, expected: Tensor, start: int) -> Tensor:
        """Rows ``start`` and following of the grown tensor; ``expected``: these rows in float64,
        all but summed dimensions grown."""
        draw = (
            self._draw(start, start + len(expected), expected.device)
            if self.symmetry.noise or self.symmetry.varied
            else None
        )
        if self.grid is None:
            return self._rounded(expected, draw).to(self.dtype)
        shape = list(expected.shape)
        shape[self.grid.axis] = self.plan.dimensions[self.grid.axis].new
        block = expected.new_empty(shape, dtype=self.dtype)
        step = max(1, CACHED // max(1, expected[:1].numel()))
        for first in range(0, len(block), step):
            rows = slice(first, first + step)
            self._on_grid(block[rows], self.grid, expected[rows], None if draw is None else draw[rows])
        self._unheard(block, self.grid, expected, draw)
        return block

    def _on_grid(self, block: Tensor, grid: ExactSums, expected: Tensor, draw: Tensor | None) -> None:
        """The copies that are heard."""
        total, unit = grid.sums(expected)
        even = grid.even(total)
        if draw is None:
            grid.lay(block, total, unit, even, grid.shared(total, self.split))
            return
        drawn = [pick(draw, grid.axis, positions).to(torch.float64) for positions in grid.turns]
        drawn = [
            part if here.all() else part * grid.along(here) for part, here in zip(drawn, grid.present, strict=True)
        ]
        sum_drawn = sum(drawn[1:], drawn[0])
        if self.symmetry.varied:
            grid.lay(block, total, unit, even, grid.shared(total, [part / sum_drawn for part in drawn]))
            return
        unit = torch.where(total == 0, ulps(total.new_tensor([REACH * self.scale]), self.dtype), unit)
        excess = (
            [sum_drawn * base for base in grid.base[:1]] * len(drawn)
            if grid.alike
            else [sum_drawn * base for base in grid.base]
        )
        noise = [(part - taken).mul_(self.scale) for part, taken in zip(drawn, excess, strict=True)]
        grid.lay(block, total, unit, even, [plain + part for plain, part in zip(even, noise, strict=True)])

    def _unheard(self, block: Tensor, grid: ExactSums, expected: Tensor, draw: Tensor | None) -> None:
        """The copies that are not heard: as defined, with noise of their own unless they are
        means."""
        dimension = self.plan.dimensions[grid.axis]
        silent = np.flatnonzero(~dimension.determined)
        if not len(silent):
            return
        only = replace(
            dimension,
            source=dimension.source[silent],
            value=dimension.value[silent],
            gradient=dimension.gradient[silent],
            shift=None if dimension.shift is None else dimension.shift[silent],
            mean=None if dimension.mean is None else dimension.mean[silent],
        )
        wide = widened(expected, grid.axis, only)
        if draw is not None and self.scale:
            wide = wide + pick(draw, grid.axis, silent) * grid.along(self.scale * _may_be_noisy(only))
        put(block, grid.axis, silent, wide)

    def _rounded(self, expected: Tensor, draw: Tensor | None) -> Tensor:
        """The tensor in float64 where its copies do not lie on a grid, so that every one is rounded
        by itself; a varied split is even."""
        wide = expected
        for axis, dimension in self.summed:
            if self.symmetry.kind == "split":
                shares = np.where(dimension.determined, split_shares(dimension, *self.symmetry.shares), 1.0)
                divided = np.divide(shares, dimension.gradient, out=dimension.value.copy(), where=dimension.determined)
                dimension = replace(dimension, value=divided)
            wide = widened(wide, axis, dimension)
        if draw is None or not self.scale:
            return wide
        noise = draw.to(torch.float64) * self.scale
        for axis, dimension in self.summed:
            factors = dimension.value * dimension.determined
            excess = fold_dimension(noise, dimension, axis, dimension.gradient * dimension.determined)
            noise = noise - pick(excess, axis, dimension.source) * column(factors, noise.ndim, axis, noise)
            noise = noise * column(_may_be_noisy(dimension), noise.ndim, axis, noise)
        return wide + noise

    def _draw(self, start: int, stop: int, device: torch.device) -> Tensor:
        """Rows ``start`` to ``stop`` of what is drawn: standard normal for noise, between the two
        shares for a varied split."""
        rows = max(1, CHUNK // max(1, math.prod(self.plan.new_shape[1:])))
        chunks = [self._chunk(first, rows) for first in range(start - start % rows, stop, rows)]
        drawn = (chunks[0] if len(chunks) == 1 else torch.cat(chunks))[start % rows :][: stop - start].to(device)
        if not self.symmetry.varied:
            return drawn
        low, high = sorted(self.symmetry.shares)
        return low / high + (1 - low / high) * drawn.to(torch.float64)

    def _chunk(self, first: int, rows: int) -> Tensor:
        """Rows ``first`` to ``first + rows``, by a generator of their own."""
        digest = hashlib.sha256(f"{self.seed}/{self.plan.canonical}/{first}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        height, *rest = self.plan.new_shape
        shape = (min(rows, height - first), *rest)
        drawn: Tensor = (
            torch.rand(shape, generator=generator) if self.symmetry.varied else torch.randn(shape, generator=generator)
        )
        return drawn


def split_shares(dimension: Dimension, first: float, last: float) -> Floats:
    """``[new]``, the share of each heard copy in what is heard of its old coordinate: evenly from
    first to last, with sum 1."""
    turns = copy_table(dimension, determined_only=True)
    counts = np.sum([positions >= 0 for positions in turns], axis=0)
    a, b = first / max(first, last), last / max(first, last)
    shares = np.zeros(dimension.new)
    for to_come, positions in enumerate(reversed(turns)):
        here = positions >= 0
        part = np.where(counts > 1, b - (b - a) * to_come / np.maximum(counts - 1, 1), (a + b) / 2)
        shares[positions[here]] = (part / (counts * (a + b) / 2))[here]
    return shares


def _may_be_noisy(dimension: Dimension) -> Floats:
    """``[new]``, 1 where noise may go, 0 where a mean is carried."""
    return np.where(np.zeros(dimension.new, dtype=np.bool_) if dimension.mean is None else dimension.mean, 0.0, 1.0)


def _left(summed: list[tuple[int, Dimension]]) -> float:
    """Mean variance of standard normal noise once what is heard is taken out of it."""
    left = 1.0
    for _, d in summed:
        gradient, value = d.gradient * d.determined, d.value * d.determined
        squares = np.bincount(d.source, gradient**2, minlength=d.old)[d.source]
        left *= float(np.mean(_may_be_noisy(d) * (1 - 2 * value * gradient + value**2 * squares)))
    return left


def _grown_rms(old: Tensor, plan: TensorPlan, offset: float) -> float:
    """RMS of ``offset + w`` over the grown weights w without noise, from the old ones: each old
    one's square counts for all its copies.

    Added up in one order whatever the layout, the number of threads and the device, and rounded to
    24 bits."""
    weights = [np.bincount(d.source, d.value**2, minlength=d.old) for d in plan.dimensions]
    step = max(1, CHUNK // max(1, math.prod(plan.shape[1:])))
    sums: list[float] = []
    for start in range(0, len(old), step):
        part = np.ascontiguousarray(old[start : start + step].to("cpu", torch.float64).numpy())
        part = (part + offset) ** 2
        for axis in range(part.ndim - 1, 0, -1):
            part = (part * weights[axis]).sum(axis=-1)
        sums.extend(part * weights[0][start : start + step])
    significand, exponent = math.frexp(math.sqrt(math.fsum(sums) / math.prod(plan.new_shape)))
    return math.ldexp(round(significand * (1 << 24)), exponent - 24)
