"""The declared families are the ground truth for what is inferred: the same weights, bit for bit, or a reason.

The reasons are a table in `support.ground_truth`, and in `docs/families.md`. A family in it that becomes the same, and
one that is not and differs, fail alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from growth import architectures
from growth.algebra.laws import Repeated
from growth.algebra.roles import Keeps, Reads, Writes
from growth.hf.model_classes import class_of
from growth.infer.infer import infer
from support.family_cases import label
from support.ground_truth import (
    BEGIN,
    BRANCHES,
    DIFFERING,
    END,
    NARROWER,
    PAGE,
    Verdict,
    Why,
    branch_cases,
    compared,
    default_config,
    main_case,
    table,
    verdict,
)

SAME = Why("")
QUICK = (
    "albert",
    "bert",
    "biogpt",
    "bloom",
    "clip_text_model",
    "deepseek_v3",
    "falcon",
    "gemma",
    "gpt2",
    "llama",
    "t5",
)
"""One of each structure: by default these, all of them in the slow tests."""


@pytest.mark.parametrize(
    "model_type",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in architectures.known()],
)
def test_the_same_bits_or_a_reason(model_type: str) -> None:
    found = verdict(*main_case(model_type))
    assert DIFFERING.get(model_type, SAME).expects(found), found


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "model_class", "branch"), branch_cases(), ids=label)
def test_every_branch(model_type: str, model_class: str, branch: dict[str, Any]) -> None:
    number = list(architectures.find(model_type).branches).index(branch)
    found = verdict(model_type, model_class, branch)
    assert BRANCHES.get((model_type, number), SAME).expects(found), found


@pytest.mark.slow
def test_narrower_heads() -> None:
    assert verdict(*NARROWER) == Verdict()


@pytest.mark.slow
def test_another_declaration_does_not_pass() -> None:
    """The comparison sees a factor in one tensor, other copies, and what one declaration does not grow."""
    raw = default_config(*main_case("gpt2"))
    written, inferred = architectures.find("gpt2"), infer(raw, class_of(raw))
    assert compared(raw, written, inferred) == Verdict()
    name = "h.*.mlp.c_fc"
    rule = inferred.modules[name]
    first, second = rule["weight"]
    assert isinstance(first, Reads) and isinstance(second, Writes)
    wrong = {
        "x2": (Writes(first.axis), second),
        "[384, 1536] and [192, 1536]": (Keeps(), second),
    }
    for said, roles in wrong.items():
        modules = {**inferred.modules, name: {**rule, "weight": roles}}
        found = compared(raw, written, replace(inferred, modules=modules))
        assert found.tensors == {f"transformer.{name}.weight": said} and not found.same_bits
    residual = next(space for space in inferred.laws if space.name == "residual")
    laws = {**inferred.laws, residual: Repeated(averaged=False)}
    assert compared(raw, written, replace(inferred, laws=laws)) == Verdict()  # the same copies by another law


def test_an_exception_must_be_true() -> None:
    for why in DIFFERING.values():
        assert not why.expects(Verdict())
        assert why.reason


def test_the_page_holds_the_table() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.split(BEGIN)[1].split(END)[0] == table(), "run `python -m support.ground_truth` in tests"
