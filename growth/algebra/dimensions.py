"""Which coordinates copy the same old one, and which of those are heard: told by a dimension's
coefficients alone.

A copy is heard if what it writes or reads reaches the output: its gradient coefficient is not 0,
and it does not carry a mean. The sum over the heard copies j of an old coordinate,
``sum(gradient[j] * new[j])``, is all that the function depends on where a dimension is ``summed``
(`growth.algebra.dimensions.Dimension`)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from growth.algebra.maps import Booleans, Floats, Integers


@dataclass(frozen=True, eq=False, repr=False)
class Dimension:
    """One dimension of one tensor, resolved: ``new[j] = value[j] * old[source[j]] + shift[j]``;
    ``gradient`` likewise for gradients.

    Where ``mean`` is true, the mean of ``old`` over this dimension stands for ``old[source[j]]``. A
    gradient coefficient of 0 stands for "unknown". Where the dimension is ``summed``, the function
    depends on ``sum(gradient[j] * new[j])`` over copies alone, so that they may differ: it is read,
    or written for nothing but a sum."""

    old: int
    source: Integers
    value: Floats
    gradient: Floats
    summed: bool = False
    shift: Floats | None = None
    mean: Booleans | None = None

    def __repr__(self) -> str:
        return f"Dimension({self.old} -> {self.new})"

    @property
    def new(self) -> int:
        """Number of new coordinates."""
        return len(self.source)

    @property
    def averages(self) -> bool:
        """Whether some of them are means."""
        return self.mean is not None and bool(self.mean.any())

    @property
    def grows(self) -> bool:
        """True if there are more coordinates than before."""
        return self.new > self.old


def heard(dimension: Dimension) -> Booleans:
    """``[new]``, which coordinates are."""
    reaches: Booleans = dimension.gradient != 0
    return reaches if dimension.mean is None else reaches & ~dimension.mean


@lru_cache(maxsize=8)
def rounds(dimension: Dimension, only_heard: bool = False) -> tuple[Integers, ...]:
    """Copies taken in rounds: for each an array ``[old]``, the next copy of every old coordinate,
    -1 for those that have fewer copies than rounds follow. So copies come in the order of the new
    coordinates, and every old one has its last copy in the last round."""
    chosen = np.flatnonzero(heard(dimension)) if only_heard else np.arange(dimension.new)
    chosen = chosen[np.argsort(dimension.source[chosen], kind="stable")]
    source = dimension.source[chosen]
    counts = np.bincount(source, minlength=dimension.old)
    to_come = np.cumsum(counts)[source] - 1 - np.arange(len(source))
    table = np.full((int(counts.max(initial=0)), dimension.old), -1, dtype=np.int64)
    table[len(table) - 1 - to_come, source] = chosen
    return tuple(table)


def common_gradient(dimension: Dimension) -> Floats | None:
    """``[old]``, the gradient coefficient that all heard copies of an old coordinate have; None if
    those of some differ."""
    which = heard(dimension)
    common = np.zeros(dimension.old)
    common[dimension.source[which]] = dimension.gradient[which]
    same = (common[dimension.source] == dimension.gradient)[which].all() and common.all()
    return common if same else None


def first_copies(d: Dimension) -> Booleans:
    """``[new]``, the first copy of each old coordinate that is alive: the old block among the new
    ones."""
    candidates = np.flatnonzero(alive(d)) if alive(d).any() else np.arange(d.new)
    _, first = np.unique(d.source[candidates], return_index=True)
    chosen = np.zeros(d.new, dtype=np.bool_)
    chosen[candidates[first]] = True
    return chosen


def alive(d: Dimension) -> Booleans:
    """Coordinates that carry an old weight and whose gradient is known."""
    known: Booleans = (d.value != 0) & (d.gradient != 0)
    return known if d.mean is None else known & ~d.mean
