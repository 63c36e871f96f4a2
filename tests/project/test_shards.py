"""Shards are disjoint, complete and of about the same size."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import pytest_collection_modifyitems

from support.shards import parsed, shards

NAMES = [
    *(f"tests/a.py::test_cases[{case}]" for case in range(83)),
    *(f"tests/a.py::test_others[{case}-{case}]" for case in range(5)),
    *(f"tests/b.py::test_{number}" for number in range(40)),
]


@pytest.mark.parametrize("parts", [1, 2, 8])
def test_every_case_is_in_one_shard_and_they_are_even(parts: int) -> None:
    belongs = shards(NAMES, parts)
    assert len(belongs) == len(NAMES) and {*belongs} == {*range(1, parts + 1)}
    cases = Counter(its for name, its in zip(NAMES, belongs, strict=True) if "test_cases" in name)
    assert max(cases.values()) - min(cases.values()) <= 1
    assert shards(NAMES, parts) == belongs  # no process draws another part


@pytest.mark.parametrize("shard", ["", "3", "0/2", "3/2", "1/2/3", "a/b", "-1/2"])
def test_a_wrong_shard_is_refused(shard: str) -> None:
    with pytest.raises(pytest.UsageError, match="must be like 1/8"):
        parsed(shard)


def selected(shard: str | None) -> tuple[list[str], list[str]]:
    """Which tests run with ``--shard``, and which are deselected."""
    deselected: list[Any] = []
    hook = SimpleNamespace(pytest_deselected=lambda items: deselected.extend(items))
    config: Any = SimpleNamespace(getoption=lambda name: {"--shard": shard}[name], hook=hook)
    items: list[Any] = [SimpleNamespace(nodeid=name) for name in NAMES]
    pytest_collection_modifyitems(config, items)
    return [item.nodeid for item in items], [item.nodeid for item in deselected]


def test_all_shards_together_run_every_test_once() -> None:
    parts = [selected(f"{part}/8") for part in range(1, 9)]
    assert sorted(name for kept, _ in parts for name in kept) == sorted(NAMES)
    assert all(sorted([*kept, *dropped]) == sorted(NAMES) for kept, dropped in parts)
    assert selected(None) == (NAMES, [])
