"""Shares: how much of a weight each of its copies takes, where the copies are read together.

The copies j of an old coordinate i have shares s[j] that add up to 1. Along a dimension that is read,
new weight j is ``s[j] / gradient[j] * old``, and the layer computes what it did.

*Shares of what is written.* If the gain of a norm has copies with shares s[j], the coordinate that
leaves the norm is ``x'[j] = s[j] / read[j] * x[i]``, and the length of x' and the angles between two
such vectors are those of x if

    sum((s[j] / read[j])**2) over the copies j of i        is the same for every i.

Copies have the ``read`` of a space of one energy, ``read[j]**2 = a / count[i]`` with one number a
(`growth.algebra.norm_laws.RMSNorm`), so that this asks for one value of ``count[i] * sum(s[j]**2)``.
Write ``s[j] = (1 + d[j]) / count[i]``, with deviations d that have mean 0: then the value is ``1 +
mean(d**2)``, and coordinates with different numbers of copies need deviations of one mean square.
*Level* shares have that. A coordinate with a single copy has no deviation, so beside one all shares
must be equal.
"""

from __future__ import annotations

import numpy as np

from growth.algebra.dimensions import Dimension, copy_table
from growth.algebra.maps import Floats


def split_shares(dimension: Dimension, first: float, last: float, level: bool = False) -> Floats:
    """``[new]``, each determined copy's share of the sum over the copies of its old coordinate.

    The shares of c copies go evenly from ``first`` to ``last`` and are divided by their sum. A copy
    that is not determined has share 0.

    Args:
        dimension: whose copies.
        first, last: the two ends, up to a common factor.
        level: whether coordinates with fewer copies than others take deviations of the same mean
            square as those with most copies; if one has a single copy, all shares are equal.

    Example:
        Coordinate 0 has three copies, coordinate 1 has one:

        >>> d = Dimension(2, np.array([0, 1, 0, 0]), np.ones(4), np.ones(4), summed=True)
        >>> split_shares(d, 1, 3).round(3).tolist()
        [0.167, 1.0, 0.333, 0.5]
        >>> split_shares(d, 1, 3, level=True).round(3).tolist()
        [0.333, 1.0, 0.333, 0.333]
    """
    table = copy_table(dimension, determined_only=True)
    counts = np.sum([positions >= 0 for positions in table], axis=0)
    low, high = first / max(first, last), last / max(first, last)
    mean = (low + high) / 2
    spread = _level_spread(counts) if level else np.ones(len(counts))
    shares = np.zeros(dimension.new)
    for to_come, positions in enumerate(reversed(table)):  # the last row holds every coordinate's last copy
        here = positions >= 0
        step = (high - low) * to_come / np.maximum(counts - 1, 1)
        part = np.where(counts > 1, high - step, mean)
        part = np.where(spread == 1, part, mean + spread * (part - mean))
        shares[positions[here]] = (part / (counts * mean))[here]
    return shares


def _level_spread(counts: np.ndarray) -> Floats:
    """``[old]``, the factor on deviations that gives all coordinates the mean square of those with
    most copies.

    Numbers that go evenly from -1 to 1 have a mean square of (c + 1) / (3 (c - 1)), c of them."""
    if not len(counts) or counts.min() < 2:
        return np.zeros(len(counts))
    most = counts.max()
    return np.asarray(np.sqrt((most + 1) / (most - 1) * (counts - 1) / (counts + 1)))
