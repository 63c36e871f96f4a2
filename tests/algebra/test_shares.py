"""Shares of copies: they add up to 1, and level ones keep the length of what they write."""

from __future__ import annotations

import numpy as np
import pytest

from growth.algebra.dimensions import Dimension
from growth.algebra.maps import Map
from growth.algebra.shares import split_shares


def dimension(counts: list[int]) -> Dimension:
    source = np.repeat(np.arange(len(counts)), counts)
    grown = Map.copies(len(counts), np.random.default_rng(0).permutation(source))
    return Dimension(grown.n, grown.source, grown.read, grown.write, summed=True)


@pytest.mark.parametrize("ends", [(1, 2), (5, 1), (1, 1e6)])
@pytest.mark.parametrize("counts", [[2, 2, 2], [2, 3, 2], [4, 2, 7, 3], [3, 1, 2], [1, 1]])
def test_level_shares_keep_the_length(counts: list[int], ends: tuple[float, float]) -> None:
    d = dimension(counts)
    shares = split_shares(d, *ends, level=True)
    np.testing.assert_allclose(np.bincount(d.source, shares), 1, rtol=1e-12)
    length = np.bincount(d.source, shares**2) * counts
    np.testing.assert_allclose(length, length[0], rtol=1e-12)
    assert (shares > 0).all()
    assert (length[0] > 1.01) == (min(counts) > 1)  # they differ, but beside a single copy
    if len(set(counts)) == 1:
        assert (shares == split_shares(d, *ends)).all() or min(counts) == 1
    most = d.source == int(np.argmax(counts))
    if min(counts) > 1:  # where there are most copies, they are what the caller asked for
        assert (shares[most] == split_shares(d, *ends)[most]).all()


def test_copies_that_no_gradient_determines_have_no_share() -> None:
    d = Dimension(2, np.array([0, 1, 0, 1, 0]), np.ones(5), np.array([1.0, 1, 1, 1, 0]))
    np.testing.assert_allclose(split_shares(d, 1, 3, level=True), [0.25, 0.25, 0.75, 0.75, 0], rtol=1e-12)
