"""The count of wrong coefficients that pass (`benchmarks/false_passes.py`), on one family; and it can count one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from growth.proof.float64 import exact_arithmetic
from support.family_cases import small_config

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import false_passes

WIDER = {"width": 2, "attention": "head-dim"}


def verdicts() -> list[str]:
    with exact_arithmetic():
        raw: dict[str, Any] = small_config("llama", "LlamaForCausalLM", {})
        found = [*false_passes.weights_made_wrong(raw, WIDER, 0), *false_passes.laws_made_wrong(raw, WIDER)]
    return [verdict for _, verdict in found]


def test_every_wrong_coefficient_and_law_is_seen() -> None:
    assert len(found := verdicts()) > 30 and set(found) == {"seen"}


def test_a_blind_comparison_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(false_passes, "largest_difference", lambda *_: 0.0)
    assert verdicts().count("") > 20
