"""Copies of an expert that differ and still add up to it.

Equal copies of an expert, with equal rows in the router, get equal gradients: they never separate.
What all c of them add is the sum of their second matrices, since their weights are equal, so noise
that adds up to nothing over the copies leaves the function as it was:

    sum over copies of (p/c) (W2 + N_j) a  =  p W2 a        where  sum over copies of N_j = 0.

From the first step on their first matrices and their rows in the router have different gradients,
and they train apart. Two copies have N and -N. Three have noise at 120 degrees in the plane of two
draws; any other number is made of twos and at most one three.

Every weight is rounded once, to its dtype."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Apart:
    """How the copies of a matrix are made to differ.

    Args:
        noise: RMS of the noise over that of the weights.
        seed: of what is drawn.
        key: what is drawn anew for each of: the name of the tensor, and of a part of it.
        copies: how many copies there are.
        number: which of them this is; None where the first dimension has an entry for each expert,
            all of the first copies, then all of the second, and so on.

    Example:
        Two copies of a matrix of ones:

        >>> both = Apart(1.0, 0, "down", copies=2).of(torch.ones(2, 3, 5))
        >>> bool((both[0] != both[1]).all()), round(float((both[0] + both[1]).mean()), 6)
        (True, 2.0)
    """

    noise: float
    seed: int
    key: str
    copies: int
    number: int | None = None

    def of(self, value: Tensor) -> Tensor:
        """The matrices, from copies that are equal."""
        if self.number is not None:
            return self._noisy(value, self.number, self.key)
        experts, result = len(value) // self.copies, torch.empty_like(value)
        for entry, matrix in enumerate(value):  # one by one: noise is drawn in float64
            result[entry] = self._noisy(matrix, entry // experts, f"{self.key}/{entry % experts}")
        return result

    def _noisy(self, value: Tensor, number: int, key: str) -> Tensor:
        weights = value.to(torch.float64)
        rms = float(np.float32(math.sqrt(float(weights.square().mean()))))  # alike on every device
        return (weights + self.noise * rms * self._drawn(value, number, key)).to(value.dtype)

    def _drawn(self, value: Tensor, number: int, key: str) -> Tensor:
        """Noise of RMS 1 for one copy; over all copies it adds up to nothing."""
        last = self.copies - 3 if self.copies % 2 else self.copies
        group = min(number, last) // 2
        draws = [self._normal(value, f"{key}/{group}/{draw}") for draw in range(1 if number < last else 2)]
        if number < last:
            return draws[0] if number % 2 == 0 else -draws[0]
        angle = 2 * math.pi * (number - last) / 3
        return math.cos(angle) * draws[0] + math.sin(angle) * draws[1]

    def _normal(self, value: Tensor, key: str) -> Tensor:
        digest = hashlib.sha256(f"{self.seed}/{key}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        return torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value.device)
