"""Breaking the symmetry of the copies without breaking the function.

Noise N added to a matrix changes nothing if it vanishes on what the matrix reads: x'[j] = write[j] x[source[j]], so for every old
coordinate i ``sum(N[.., j] * write[j] for j with source[j] == i) == 0``. The projection ``N <- N - read * (sum over copies of N * write)``
has that property, because ``sum(read * write) == 1`` over copies. (The null space of reading; one group of copies at a time.)

Seeded by (seed, tensor name, first row of a fixed chunk): independent of the order of tensors, of shards, threads and block sizes.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from torch import Tensor

from growth.plan import TensorPlan
from growth.role import Dimension

CHUNK = 1 << 21
"""Elements drawn from one generator. Part of what a seed means: changing it changes every noisy growth."""


def fold_dimension(block: Tensor, dimension: Dimension, axis: int) -> Tensor:
    """Sum over the copies along ``axis``, each times its ``gradient`` coefficient: new size -> old size."""
    source = torch.from_numpy(dimension.source).to(block.device)
    shape = list(block.shape)
    shape[axis] = dimension.old
    weighted = block * column(dimension.gradient, block.ndim, axis, block)
    return torch.zeros(shape, dtype=block.dtype, device=block.device).index_add_(axis, source, weighted)


def column(values: np.ndarray, ndim: int, axis: int, like: Tensor) -> Tensor:
    """Coefficients shaped to broadcast along ``axis``."""
    shape = [1] * ndim
    shape[axis] = -1
    return torch.from_numpy(np.ascontiguousarray(values)).to(like.device, like.dtype).reshape(shape)


class NullSpaceNoise:
    """Noise for one tensor whose first dimension does not read, RMS ``plan.noise`` relative to the grown weight's.

    Args:
        old: the source tensor.
        plan: its plan.
        seed: the caller's.
    """

    def __init__(self, old: Tensor, plan: TensorPlan, seed: int) -> None:
        self.plan, self.seed = plan, seed
        left = 1.0
        for d in plan.dimensions:
            if d.reads and d.grows:  # mean over j of E[(n_j - read_j * sum(n * write))**2], n standard normal
                group = np.bincount(d.source, d.gradient**2, minlength=d.old)[d.source]
                left *= float(np.mean(1 - 2 * d.value * d.gradient + d.value**2 * group))
        self.scale = plan.noise * _grown_rms(old, plan) / max(left, 1e-12) ** 0.5

    def __call__(self, start: int, stop: int, device: torch.device) -> Tensor:
        """Rows start..stop of the noise, float64."""
        rows = max(1, CHUNK // max(1, math.prod(self.plan.new_shape[1:])))
        chunks = [self._chunk(first, rows) for first in range(start - start % rows, stop, rows)]
        noise: Tensor = torch.cat(chunks)[start % rows :][: stop - start].to(device, torch.float64) * self.scale
        for axis, d in enumerate(self.plan.dimensions):
            if d.reads and d.grows:
                excess = fold_dimension(noise, d, axis)
                source = torch.from_numpy(d.source).to(device)
                noise -= excess.index_select(axis, source) * column(d.value, noise.ndim, axis, noise)
        return noise

    def _chunk(self, first: int, rows: int) -> Tensor:
        """Standard normal rows ``first`` to ``first + rows``, by a generator of their own."""
        digest = hashlib.sha256(f"{self.seed}/{self.plan.canonical}/{first}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        height, *rest = self.plan.new_shape
        drawn: Tensor = torch.randn((min(rows, height - first), *rest), generator=generator)
        return drawn


def _grown_rms(old: Tensor, plan: TensorPlan) -> float:
    """RMS of the grown weight without noise, from the old one: each old weight's square counts for all its copies."""
    weights = [np.bincount(d.source, d.value**2, minlength=d.old) for d in plan.dimensions]
    step = max(1, (1 << 22) // max(1, old[0].numel()))
    total = 0.0
    for start in range(0, len(old), step):
        part = old[start : start + step].to(torch.float64) ** 2
        for axis in range(part.ndim - 1, 0, -1):
            part = part @ torch.from_numpy(weights[axis]).to(part.device)
        total += float(part.flatten() @ torch.from_numpy(weights[0][start : start + step]).to(part.device))
    return math.sqrt(total / math.prod(plan.new_shape))
