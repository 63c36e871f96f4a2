"""The gradients of the first step in new layers are of the order of those in old ones: silence stands
where it makes no spike (`benchmarks/new_layers.py`)."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from new_layers import FAMILIES, measured

NORM_FOLLOWS = ("Gemma 2", "OLMo 2")


@pytest.mark.parametrize("name", FAMILIES)
def test_they_are_finite_and_of_the_order_of_the_old_ones(name: str) -> None:
    model_type, fields = FAMILIES[name]
    found = measured(model_type, **fields)
    assert found is not None and all(math.isfinite(value) for value in (found.old, found.new, found.largest))
    assert 0.1 < found.largest < 2, "the largest gradient of a new block, over that of an old one"
    assert 0.01 < found.new / found.old < 2


@pytest.mark.parametrize("name", NORM_FOLLOWS)
def test_a_zero_writer_under_a_norm_is_seen(name: str) -> None:
    model_type, fields = FAMILIES[name]
    found = measured(model_type, naive=True, **fields)
    assert found is not None and found.largest > 100
