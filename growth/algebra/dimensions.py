"""One dimension of one tensor: which old coordinate each new one copies, and with which factors.

Three facts about a new coordinate follow from its coefficients alone:

* it is *silent* if its weight starts at zero: ``value[j] == 0``;
* its gradient is *determined* if the small model's gradient fixes it: ``gradient[j] != 0``, and it
  carries no mean;
* it is *active* if it is determined and not silent: it holds an old weight and trains as that does.

Where a dimension is ``summed``, the function depends on ``sum(gradient[j] * new[j])`` over the
determined copies j of each old coordinate, and on nothing else about them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from growth.algebra.maps import Booleans, Floats, Integers, powers_of_two


@dataclass(frozen=True, eq=False, repr=False)
class Dimension:
    """``new[j] = value[j] * old[source[j]] + shift[j]``, and ``gradient[j]`` for the gradient.

    Args:
        old: number of old coordinates.
        source: ``[new]``, the old coordinate that each new one copies.
        value: ``[new]``, factor on the weight.
        gradient: ``[new]``, factor on the gradient; 0 where the small model does not determine it.
        summed: whether only the sum ``sum(gradient[j] * new[j])`` over copies matters, so that they
            may differ. It does where the dimension is read, and where what it writes is only ever
            summed: a tied head adds up the copies that the final norm's gain writes, so two copies
            of a gain of 1 may be 0.3 and 0.7.
        shift: ``[new]``, added to the weight; None for nothing.
        mean: ``[new]``, where the mean of ``old`` over this dimension stands for
            ``old[source[j]]``; None for nowhere.

    Example:
        An input of two coordinates becomes one of five, of which the last starts at zero:

        >>> value, gradient = np.array([0.5, 0.5, 0.5, 0.5, 0.0]), np.array([1.0, 1.0, 1.0, 1.0, 0.0])
        >>> d = Dimension(2, np.array([0, 1, 0, 1, 0]), value, gradient, summed=True)
        >>> d.new, d.active.tolist()
        (5, [True, True, True, True, False])
        >>> d.first_copies.tolist(), d.common_gradient.tolist()
        ([True, True, False, False, False], [1.0, 1.0])
    """

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
        """Whether some coordinates are means."""
        return self.mean is not None and bool(self.mean.any())

    @property
    def grows(self) -> bool:
        """True if there are more coordinates than before."""
        return self.new > self.old

    @cached_property
    def means(self) -> Booleans:
        """``[new]``, where the mean is carried."""
        return np.zeros(self.new, dtype=np.bool_) if self.mean is None else self.mean

    @cached_property
    def determined(self) -> Booleans:
        """``[new]``, where the small model's gradient determines that of the new weight."""
        return np.asarray((self.gradient != 0) & ~self.means)

    @cached_property
    def active(self) -> Booleans:
        """``[new]``, determined and not silent."""
        return np.asarray((self.value != 0) & self.determined)

    @cached_property
    def per_sum(self) -> Floats:
        """``[new]``, the factor on what the copies add up to: ``1 / gradient``, 0 where it is not
        determined."""
        return np.divide(1.0, self.gradient, out=np.zeros(self.new), where=self.determined)

    @cached_property
    def exact_copies(self) -> bool:
        """Whether no float format rounds a copy: its factor is a power of two, nothing is added or
        averaged."""
        return self.shift is None and not self.averages and bool(powers_of_two(self.value).all())

    @cached_property
    def exact_sums(self) -> bool:
        """Whether no float format rounds what the copies add up to."""
        return self.shift is None and bool(powers_of_two(self.per_sum).all())

    @cached_property
    def first_copies(self) -> Booleans:
        """``[new]``, the first active copy of each old coordinate, or the first copy if the
        dimension has no active ones. These coordinates hold the old block."""
        candidates = np.flatnonzero(self.active) if self.active.any() else np.arange(self.new)
        _, first = np.unique(self.source[candidates], return_index=True)
        chosen = np.zeros(self.new, dtype=np.bool_)
        chosen[candidates[first]] = True
        return chosen

    @cached_property
    def common_gradient(self) -> Floats | None:
        """``[old]``, the gradient coefficient that the determined copies of each old coordinate
        have in common; None if they differ, or if a coordinate has no such copy."""
        common = np.zeros(self.old)
        common[self.source[self.determined]] = self.gradient[self.determined]
        same = (common[self.source] == self.gradient)[self.determined].all() and common.all()
        return common if same else None


@lru_cache(maxsize=8)
def copy_table(dimension: Dimension, determined_only: bool = False) -> tuple[Integers, ...]:
    """The copies of every old coordinate, as the rows of a table ``[most copies, old]``.

    A column lists the copies of one old coordinate in order. The last row holds the last copy of
    every coordinate; columns with fewer copies than rows start with -1.

    Args:
        dimension: the dimension.
        determined_only: leave out copies whose gradient is not determined.

    Example:
        Old coordinate 0 has copies 0 and 2, coordinate 1 has copy 1:

        >>> source = np.array([0, 1, 0])
        >>> [row.tolist() for row in copy_table(Dimension(2, source, np.ones(3), np.ones(3)))]
        [[0, -1], [2, 1]]
    """
    chosen = np.flatnonzero(dimension.determined) if determined_only else np.arange(dimension.new)
    chosen = chosen[np.argsort(dimension.source[chosen], kind="stable")]  # all copies of 0, then all of 1, ...
    source = dimension.source[chosen]
    counts = np.bincount(source, minlength=dimension.old)
    later = np.cumsum(counts)[source] - 1 - np.arange(len(source))  # how many copies of the same coordinate follow
    table = np.full((int(counts.max(initial=0)), dimension.old), -1, dtype=np.int64)
    table[len(table) - 1 - later, source] = chosen
    return tuple(table)


@dataclass(frozen=True, eq=False)
class Copies:
    """Old coordinates that have equally many copies.

    Args:
        coordinates: ``[n]``, which.
        positions: ``[copies, n]``, the new coordinates that copy them, in order.
    """

    coordinates: Integers
    positions: Integers


@lru_cache(maxsize=16)
def copy_groups(dimension: Dimension, determined_only: bool = False) -> tuple[Copies, ...]:
    """The copies of every old coordinate that has any, by their number.

    Args:
        dimension: the dimension.
        determined_only: leave out copies whose gradient is not determined.

    Example:
        Old coordinates 0 and 2 have two copies, coordinate 1 has one:

        >>> groups = copy_groups(Dimension(3, np.array([0, 1, 2, 0, 2]), np.ones(5), np.ones(5)))
        >>> [(group.coordinates.tolist(), group.positions.tolist()) for group in groups]
        [([1], [[1]]), ([0, 2], [[0, 2], [3, 4]])]
    """
    table = np.stack(copy_table(dimension, determined_only) or [np.full(dimension.old, -1)])
    counts = (table >= 0).sum(axis=0)
    coordinates = {int(count): np.flatnonzero(counts == count) for count in np.unique(counts) if count}
    return tuple(Copies(found, table[len(table) - count :, found]) for count, found in coordinates.items())
