"""Where a tensor of an extended model comes from, as a value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from growth.algebra.maps import Booleans, Floats, Integers
from growth.extension.split import Apart


@dataclass(frozen=True, eq=False)
class Part:
    """Where one tensor of an extended model comes from: entries of one tensor of the model.

    Args:
        source: the name of that tensor.
        take: for each dimension, which entries, in order; -1 for an entry that is 0. None for all.
            Where that depends on the entry of the first dimension, a row for each. Empty: all of
            every dimension.
        fill: the value of every entry instead of the source's; None to take the source's.
        gradient: the gradient of an entry over that of the source's, where ``take`` makes no copies;
            of c copies each has a c-th of that (`shares`). None where the model does not determine
            it, as in a new layer, whose optimizer state starts at zero.
        new: whether the model has no such tensor: one of a new layer, a head that was tied.
        uneven: whether the gradients of copies differ, so that only their sum is determined.
        scale: the factor on the values.
        apart: how equal copies are made to differ; None to leave them equal.

    Example:
        Each of two rows twice:

        >>> part = Part("weight", (np.array([0, 0, 1, 1]), None))
        >>> part.shape((2, 3)), part.of(torch.eye(2, 3))[:, 0].tolist()
        ((4, 3), [1.0, 1.0, 0.0, 0.0])
        >>> part.state(torch.ones(2, 3), degree=1)[:, 0].tolist()
        [0.5, 0.5, 0.5, 0.5]
    """

    source: str
    take: tuple[Integers | None, ...] = ()
    fill: float | None = None
    gradient: float | None = 1.0
    new: bool = False
    uneven: bool = False
    scale: float = 1.0
    apart: Apart | None = None

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the new tensor, if the source has ``shape``."""
        taken = self.take or (None,) * len(shape)
        return tuple(size if one is None else one.shape[-1] for size, one in zip(shape, taken, strict=True))

    def of(self, value: Tensor) -> Tensor:
        """The new tensor, from the source's values."""
        value = self._taken(value)
        if self.fill is not None:
            return torch.full_like(value, self.fill)
        value = value if self.scale == 1.0 else value * self.scale
        return value if self.apart is None else self.apart.of(value)

    def _taken(self, value: Tensor) -> Tensor:
        """The entries of the new tensor, from the source's values or from what is stored for each of
        them. A dimension of size 1 that stands for all (a mean over rows) stays."""
        for axis, taken in enumerate(self.take):
            if taken is None or value.shape[axis] == 1:
                continue
            index = torch.from_numpy(np.maximum(taken, 0)).to(value.device)
            if index.ndim == 1:
                value = value.index_select(axis, index)
                if (taken < 0).any():
                    value.index_fill_(axis, torch.from_numpy(np.flatnonzero(taken < 0)).to(value.device), 0)
            else:
                value = torch.stack([one.index_select(axis - 1, row) for one, row in zip(value, index, strict=True)])
        return value

    def state(self, value: Tensor, degree: int, first_only: bool = False) -> Tensor:
        """What an optimizer holds of the new tensor.

        Args:
            value: what it holds of the source; a size of 1 stands for the mean over a dimension.
            degree: of that in the gradient.
            first_only: whether only the first copy of each entry has it, and the others have 0.
        """
        state = self._taken(value) * (1.0 if self.gradient is None else self.gradient) ** degree
        for axis, shares in enumerate(self.shares):
            if shares is not None:
                factors = shares**degree if value.shape[axis] != 1 else (shares**degree).mean(keepdims=True)
                along = [-1 if dimension == axis else 1 for dimension in range(value.ndim)]
                state = state * torch.from_numpy(factors).to(state.device, state.dtype).reshape(along)
        if first_only and self.new and self.gradient != 1.0:  # one of several tensors that share a gradient
            return torch.zeros_like(state)
        for axis, firsts in enumerate(self.firsts if first_only else ()):
            if firsts is not None and state.shape[axis] == len(firsts):
                state.index_fill_(axis, torch.from_numpy(np.flatnonzero(~firsts)).to(state.device), 0)
        return state

    @property
    def shares(self) -> tuple[Floats | None, ...]:
        """For each dimension, the share of each entry in the gradient of its source: a c-th, of c
        copies. None where all is taken."""
        return tuple(None if one is None or one.ndim > 1 else 1.0 / np.bincount(one + 1)[one + 1] for one in self.take)

    @property
    def firsts(self) -> tuple[Booleans | None, ...]:
        """For each dimension, which entries are the first of their source, and so hold the model's; the
        others are new. None where all is taken, or another dimension tells."""
        if not any(one is not None and one.ndim > 1 for one in self.take):
            return tuple(None if one is None else _first(one[:, None]) & (one >= 0) for one in self.take)
        taken = [one.reshape(len(one), -1) for one in self.take if one is not None]
        return (_first(np.concatenate(taken, axis=1)), *(None for _ in self.take[1:]))

    def after(self, first: Part) -> Part:
        """Where the tensor comes from if its source is itself a part: ``first``, then this."""
        axes = range(max(len(self.take), len(first.take)))
        take = tuple(_after(_at(self.take, axis), _at(first.take, axis)) for axis in axes)
        gradient = None if self.gradient is None or first.gradient is None else self.gradient * first.gradient
        fill = first.fill if self.fill is None else self.fill
        new, uneven, apart = self.new or first.new, first.uneven or self.uneven, self.apart or first.apart
        return Part(first.source, take, fill, gradient, new, uneven, first.scale * self.scale, apart)


def _first(rows: Integers) -> Booleans:
    """Which rows do not occur before."""
    found = np.zeros(len(rows), dtype=np.bool_)
    found[np.unique(rows, axis=0, return_index=True)[1]] = True
    return found


def _at(take: tuple[Integers | None, ...], axis: int) -> Integers | None:
    return take[axis] if take else None


def _after(later: Integers | None, first: Integers | None) -> Integers | None:
    if later is None or first is None:
        return first if later is None else later
    taken: Integers = np.where(later < 0, -1, first[later])
    return taken
