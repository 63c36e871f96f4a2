"""Which coordinates copy the same old one, and which of those are heard: told by a dimension's coefficients alone.

A copy is heard if what it writes or reads reaches the output: its gradient coefficient is not 0, and it does not carry a mean. The sum over
the heard copies j of an old coordinate, ``sum(gradient[j] * new[j])``, is all that the function depends on where a dimension is ``summed``
(`growth.role.Dimension`).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from growth.axis import Booleans, Floats, Integers
from growth.role import Dimension


def heard(dimension: Dimension) -> Booleans:
    """``[new]``, which coordinates are."""
    reaches: Booleans = dimension.gradient != 0
    return reaches if dimension.mean is None else reaches & ~dimension.mean


@lru_cache(maxsize=8)
def rounds(dimension: Dimension, only_heard: bool = False) -> tuple[Integers, ...]:
    """Copies taken in rounds: for each an array ``[old]``, the next copy of every old coordinate, -1 for those that have fewer copies than
    rounds follow. So copies come in the order of the new coordinates, and every old one has its last copy in the last round."""
    chosen = np.flatnonzero(heard(dimension)) if only_heard else np.arange(dimension.new)
    chosen = chosen[np.argsort(dimension.source[chosen], kind="stable")]
    source = dimension.source[chosen]
    counts = np.bincount(source, minlength=dimension.old)
    to_come = np.cumsum(counts)[source] - 1 - np.arange(len(source))
    table = np.full((int(counts.max(initial=0)), dimension.old), -1, dtype=np.int64)
    table[len(table) - 1 - to_come, source] = chosen
    return tuple(table)


def common_gradient(dimension: Dimension) -> Floats | None:
    """``[old]``, the gradient coefficient that all heard copies of an old coordinate have; None if those of some differ."""
    which = heard(dimension)
    common = np.zeros(dimension.old)
    common[dimension.source[which]] = dimension.gradient[which]
    same = (common[dimension.source] == dimension.gradient)[which].all() and common.all()
    return common if same else None
