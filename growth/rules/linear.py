"""Linear maps: ``y = W x + b``.

``y'[i] = sum_j write_y[i] W[.., ..] read_x[j] write_x[j] x + write_y[i] b = write_y[i] (W x + b)``,
since reading undoes writing."""

from __future__ import annotations

from collections.abc import Mapping

from growth.algebra.axes import Axis
from growth.algebra.roles import Keeps, Reads, Role, Writes

Rule = Mapping[str, tuple[Role, ...]]
"""Parameter suffix -> one role per dimension."""


def _writes(axis: Axis | None) -> Role:
    return Keeps() if axis is None else Writes(axis)


def linear(reads: Axis, writes: Axis | None = None) -> Rule:
    """``torch.nn.Linear``: weight ``[out, in]``, bias ``[out]``. ``writes=None`` keeps the outputs
    (vocabulary, labels)."""
    return {"weight": (_writes(writes), Reads(reads)), "bias": (_writes(writes),)}


def conv1d(reads: Axis, writes: Axis | None = None) -> Rule:
    """``transformers.Conv1D`` (GPT-2), a linear layer stored transposed: weight ``[in, out]``, bias
    ``[out]``."""
    return {"weight": (Reads(reads), _writes(writes)), "bias": (_writes(writes),)}


def convolution(reads: Axis | None, writes: Axis | None = None, *, kernel: int = 1) -> Rule:
    """``torch.nn.Conv1d`` (kernel 1) and ``Conv2d`` (2): weight ``[out, in, *window]``, bias
    ``[out]``. ``reads=None``: raw input."""
    entering = Keeps() if reads is None else Reads(reads)
    return {"weight": (_writes(writes), entering, *(Keeps(),) * kernel), "bias": (_writes(writes),)}
