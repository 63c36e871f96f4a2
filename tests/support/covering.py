"""Pairwise covering: few rows that hold every pair of values that any allowed row holds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Row = dict[str, Any]
Pair = tuple[tuple[str, Any], tuple[str, Any]]


def product(factors: Mapping[str, Sequence[Any]]) -> list[Row]:
    """Every combination of one value per factor."""
    return [dict(zip(factors, values, strict=True)) for values in itertools.product(*factors.values())]


def pairs(rows: Iterable[Row]) -> set[Pair]:
    """Every two (factor, value) that stand together in a row."""
    return {pair for row in rows for pair in itertools.combinations(row.items(), 2)}


def pairwise(factors: Mapping[str, Sequence[Any]], allowed: Callable[[Row], bool] = lambda row: True) -> list[Row]:
    """Rows of the product that hold every pair of values which an allowed row holds, the row with
    the most new pairs first. The product must be small: all of it is looked at for each row.

    Example:
        >>> rows = pairwise({"attention": ("heads", "head-dim"), "width": (2, 3, 1.5), "noise": (0, 0.4)})
        >>> len(rows), len(product({"attention": ("heads", "head-dim"), "width": (2, 3, 1.5), "noise": (0, 0.4)}))
        (6, 12)
    """
    rows = [row for row in product(factors) if allowed(row)]
    left, chosen = pairs(rows), []
    while left:
        best = max(rows, key=lambda row: len(pairs([row]) & left))
        chosen.append(best)
        left -= pairs([best])
    return chosen
