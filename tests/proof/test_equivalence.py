"""The claim itself on configs that spell sizes out their own way, tied or not; every class of every
family is in test_families.py."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

import growth
from growth.plan.plan import TOLERANCE
from support.families import LANGUAGE_MODELS, Case, build, difference, exact, generate, load

exactly = pytest.fixture(exact, autouse=True)

ATTENTION: list[dict[str, Any]] = [{"attention": "heads"}, {"attention": "head-dim"}]
PAIRS: dict[str, Any] = {"attention": "head-dim", "rope": "pairs"}


def label(value: object) -> str:
    return "-".join(str(v) for v in value.values()) if isinstance(value, dict) else str(value)


CASES = [
    (case, tied, {**attention, "scaling": scaling, "width": 3, "noise": 0.4})
    for number, (case, tied) in enumerate(itertools.product(LANGUAGE_MODELS, (True, False)))
    for attention, scaling in [((ATTENTION[number % 2]), ("unit", "orthogonal")[number // 2 % 2])]
]


def check(case: Case, tied: bool, choice: dict[str, Any], folder: Path) -> None:
    changes: dict[str, Any] = {}
    if choice["scaling"] == "orthogonal" and case.model_class in NEED_SMALL_EPSILON:
        changes["layer_norm_eps"] = 1e-12  # one epsilon for two norms that want different ones, see growth.epsilon
    small = build(case, tied=tied, **changes)
    small.save_pretrained(folder / "small")
    result = growth.widen_checkpoint(folder / "small", folder / "wide", **choice)
    small, wide = load(folder / "small", case), load(folder / "wide", case)
    assert difference(small, wide, result.plan) <= TOLERANCE
    assert result.proof.twin.difference <= TOLERANCE and result.proof.fold.ok
    if case.generates:
        assert generate(wide) == generate(small)


NEED_SMALL_EPSILON = (
    "BertForMaskedLM",
    "BertForPreTraining",
    "BertLMHeadModel",
    "RobertaForMaskedLM",
    "RobertaForCausalLM",
)


@pytest.mark.parametrize(("case", "tied", "choice"), CASES, ids=label)
def test_spelled_out_configs(case: Case, tied: bool, choice: dict[str, Any], tmp_path: Path) -> None:
    check(case, tied, choice, tmp_path)
