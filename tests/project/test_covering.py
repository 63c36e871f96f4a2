"""The pairwise rows that the suite is made of hold every pair, and are few."""

from __future__ import annotations

from typing import Any

import pytest

from support.covering import Row, pairs, pairwise, product

FACTORS: dict[str, tuple[Any, ...]] = {
    "attention": ("heads", "head-dim", "pairs"),
    "scaling": ("unit", "orthogonal"),
    "width": (2, 3, 1.5, "5/3"),
    "noise": (0.0, 0.4),
}


def any_row(row: Row) -> bool:
    return True


def no_orthogonal_wider_heads(row: Row) -> bool:
    return (row["scaling"], row["attention"]) != ("orthogonal", "head-dim")


@pytest.mark.parametrize("allowed", [any_row, no_orthogonal_wider_heads])
def test_every_pair_of_an_allowed_row_is_covered(allowed: Any) -> None:
    rows, all_rows = pairwise(FACTORS, allowed), [row for row in product(FACTORS) if allowed(row)]
    assert all(allowed(row) for row in rows)
    assert pairs(rows) == pairs(all_rows)
    assert len(rows) <= len(all_rows) / 3


def test_a_missing_row_is_seen() -> None:
    rows = pairwise(FACTORS)
    assert all(pairs(rows[:i] + rows[i + 1 :]) != pairs(product(FACTORS)) for i in range(len(rows)))


def test_two_factors_need_their_product() -> None:
    two = {name: FACTORS[name] for name in ("attention", "width")}
    assert len(pairwise(two)) == 12
