"""What is drawn where copies are to differ, and how large noise is.

Draws are whole numbers of 16 bits, evenly spread from -32768 to 32767, from a generator that is
seeded by (seed, tensor name, first row of a chunk of fixed size) and whose numbers are the same on
every machine. They depend neither on the order of tensors nor on shards, threads or block sizes,
and are drawn on the CPU whatever the device.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from torch import Tensor

from growth.algebra.dimensions import Dimension
from growth.algebra.maps import Floats
from growth.plan.tensor_plan import TensorPlan
from growth.weights.blocks import Each

CHUNK = 1 << 21
"""Elements drawn from one generator. Part of what a seed means: changing it changes every growth
that draws."""

SPREAD = math.sqrt(((1 << 32) - 1) / 12)
"""RMS of a draw about its mean of -1/2."""

ADDED = 1 << 17
"""Weights squared and added up at a time, few enough for a processor's cache."""


def drawn_rows(plan: TensorPlan, seed: int, start: int, stop: int) -> Tensor:
    """Rows ``start`` to ``stop`` of what is drawn for a grown tensor, as int16.

    Args:
        plan: of the tensor.
        seed: the caller's.
        start, stop: rows of the grown tensor.

    Example:
        Whether drawn by themselves or with others, rows are the same:

        >>> from growth.algebra.roles import Keeps
        >>> plan = TensorPlan("w", "w", (4, 3), (Keeps(),) * 2, (Keeps().resolve(4, {}), Keeps().resolve(3, {})))
        >>> torch.equal(drawn_rows(plan, 0, 2, 4), drawn_rows(plan, 0, 0, 4)[2:])
        True
    """
    rows = max(1, CHUNK // max(1, math.prod(plan.new_shape[1:])))
    chunks = [_chunk(plan, seed, first, rows) for first in range(start - start % rows, stop, rows)]
    return (chunks[0] if len(chunks) == 1 else torch.cat(chunks))[start % rows :][: stop - start]


def _chunk(plan: TensorPlan, seed: int, first: int, rows: int) -> Tensor:
    """Rows ``first`` to ``first + rows``, from a generator seeded for them alone."""
    digest = hashlib.sha256(f"{seed}/{plan.canonical}/{first}".encode()).digest()
    height, *rest = plan.new_shape
    shape = (min(rows, height - first), *rest)
    raw = np.random.SFC64(int.from_bytes(digest, "big")).random_raw(-(-math.prod(shape) // 4))
    numbers = raw.astype("<u8", copy=False).view("<i2").astype(np.int16, copy=False)
    return torch.from_numpy(numbers[: math.prod(shape)]).reshape(shape)


def noise_scale(old: Tensor, plan: TensorPlan, offset: float, each: Each) -> float:
    """The factor on draws that makes noise which cancels as large as ``plan.symmetry.noise`` asks
    for, in units of the RMS of the grown weights.

    Args:
        old: the source tensor.
        plan: its plan.
        offset: what the model adds to the weight before it multiplies.
        each: like `map`, for parts of the tensor.
    """
    summed = [d for d in plan.dimensions if d.summed and d.grows]
    size = plan.symmetry.noise * grown_rms(old, plan, offset, each)
    return size / math.sqrt(max(projected_variance(summed), 1e-12)) / SPREAD


def projected_variance(summed: list[Dimension]) -> float:
    """The mean variance of noise of variance 1 after projection into the null space of the sum.

    Of ``N[j] - value[j] * sum(gradient * N)`` the variance is ``1 - 2 value[j] gradient[j] +
    value[j]**2 sum(gradient**2)``, the sum over the copies of one old coordinate."""
    variance = 1.0
    for d in summed:
        gradient, value = d.gradient * d.determined, d.value * d.determined
        squares = np.bincount(d.source, gradient**2, minlength=d.old)[d.source]
        variance *= float(np.mean(~d.means * (1 - 2 * value * gradient + value**2 * squares)))
    return variance


def grown_rms(old: Tensor, plan: TensorPlan, offset: float, each: Each = map) -> float:
    """RMS of ``offset + w`` over the grown weights w without noise.

    Computed from the old weights: the square of each counts ``value**2`` times for every copy. The
    sum runs in one order whatever the layout, the number of threads and the device, and the result
    is rounded to 24 bits, so that a seed gives the same noise everywhere. Float64 weights, whose
    squares it may not hold, are first divided by a power of two, which rounds nothing."""
    weights = [np.bincount(d.source, d.value**2, minlength=d.old) for d in plan.dimensions]
    step = max(1, ADDED // max(1, math.prod(plan.shape[1:])))

    power = _power_of_two(old, offset)

    def sums(start: int) -> Floats:
        part = old[start : start + step].to(torch.float64)
        part = part + offset if offset else part
        part = (part if power == 1.0 else part / power).square()
        for axis in range(part.ndim - 1, 0, -1):
            part = _added_up(part, weights[axis])
        return np.asarray(part.cpu().numpy() * weights[0][start : start + step])

    total = math.fsum(value for part in each(sums, range(0, len(old), step)) for value in part)
    significand, exponent = math.frexp(math.sqrt(total / max(1, math.prod(plan.new_shape))))
    return math.ldexp(round(significand * (1 << 24)), exponent - 24) * power


def _power_of_two(old: Tensor, offset: float) -> float:
    """The size of the largest float64 weight, as a power of two; 1 for other dtypes, whose squares all
    are float64."""
    if old.dtype != torch.float64 or not old.numel():
        return 1.0
    largest = max(abs(float(end)) for end in old.aminmax()) + abs(offset)
    return 2.0 ** (math.frexp(largest)[1] - 1)


def _added_up(values: Tensor, weights: np.ndarray) -> Tensor:
    """``sum(values * weights)`` over the last axis, by adding one half of it to the other until one
    number is left. No kernel chooses the order."""
    uniform = len(weights) and bool((weights == weights[0]).all())
    if not uniform:
        values = values * torch.from_numpy(weights).to(values.device)
    while (count := values.shape[-1]) > 1:
        half = count // 2
        halves = values[..., :half] + values[..., half : 2 * half]
        if count % 2:
            halves[..., 0] += values[..., -1]
        values = halves
    return values.sum(dim=-1) * (float(weights[0]) if uniform else 1.0)
