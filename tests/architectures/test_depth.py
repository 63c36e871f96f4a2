"""More layers, for every class of every declared family under every branch of its declaration: exact
in exact arithmetic, or refused for a reason that is true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

import growth
import growth.extension.layers
from growth.errors import IllegalGrowthError, ProofError
from growth.plan.build import plan_config
from growth.plan.options import chosen
from growth.proof.twin import prove_twin, twin_report
from support.depth import check, check_again, deeper, planned, refusal_of
from support.families import exact
from support.family_cases import ALL, MAIN, Choice, label, small_config

exactly = pytest.fixture(exact, autouse=True)

WIDTHS: tuple[Choice, ...] = ({}, {"width": 2, "noise": 0.3}, {"width": 1.5})
SMALL = {
    **{"hidden_size": 48, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2},
    **{"num_hidden_layers": 2, "vocab_size": 64},
}
STRUCTURES = {
    "llama": "writers without biases",
    "gemma2": "gains to which 1 is added, behind the writers; kinds of layer in turn",
    "gpt2": "writers with biases, Conv1D",
    "deepseek_v3": "dense layers first, then experts",
    "t5": "two lists of layers, a table in the first",
    "clip": "two towers",
    "vit": "a list that has another name in memory",
}
"""Families, one of each structure: they are tested by default, all of them in the slow tests."""
CASES = [case for case in ALL if not refusal_of(case)]
REFUSED = [case for case in ALL if refusal_of(case)]
EXACT = [case for case in MAIN if not refusal_of(case)]


@pytest.mark.parametrize(
    ("case", "number"),
    [(next(case for case in MAIN if case[0] == name), number) for number, name in enumerate(STRUCTURES)],
    ids=label,
)
def test_one_family_of_each_structure(case: tuple[str, str, dict[str, Any]], number: int) -> None:
    raw = small_config(*case)
    check(raw, deeper(raw, 2, **WIDTHS[number % 3]))


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_a_deeper_model_is_saved_loaded_and_grown_again(model_type: str, tmp_path: Path) -> None:
    raw = small_config(*next(case for case in MAIN if case[0] == model_type))
    check_again(raw, deeper(raw, 1), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "number"), [(case, number) for number, case in enumerate(CASES)], ids=label)
def test_every_class_and_branch(case: tuple[str, str, dict[str, Any]], number: int) -> None:
    """Each with one of the widths, in turn; one class of each family with all of them."""
    raw = small_config(*case)
    for width in WIDTHS if case in MAIN else (WIDTHS[number % 3],):
        check(raw, deeper(raw, 2, **width), twin=case in MAIN)


@pytest.mark.slow
@pytest.mark.parametrize("case", EXACT, ids=label)
def test_every_family_is_saved_loaded_and_grown_again(case: tuple[str, str, dict[str, Any]], tmp_path: Path) -> None:
    raw = small_config(*case)
    check_again(raw, deeper(raw, 1), tmp_path)


def refused(case: tuple[str, str, dict[str, Any]]) -> None:
    raw = small_config(*case)
    with pytest.raises((IllegalGrowthError, ProofError), match=refusal_of(case)):
        prove_twin(planned(raw, deeper(raw))[1])


@pytest.mark.parametrize("name", ["albert", "bert", "opt", "WhisperForAudioClassification"])
def test_what_cannot_be_exact_is_refused(name: str) -> None:
    for case in [case for case in REFUSED if name in case[:2]][-2:]:
        refused(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED, ids=label)
def test_every_refusal(case: tuple[str, str, dict[str, Any]]) -> None:
    refused(case)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=() if case[0] in ("bert", "opt", "xlnet") else pytest.mark.slow)
        for case in MAIN
        if refusal_of(case) == "post-norm"
    ],
    ids=label,
)
def test_the_reason_of_a_refusal_is_true(
    case: tuple[str, str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the refusal, a silent layer of a post-norm family makes another function."""
    monkeypatch.setattr(growth.extension.layers, "_check_norms", lambda *args: None)
    raw = small_config(*case)
    plan = plan_config(raw, chosen(deeper(raw, 1)))  # type: ignore[arg-type]
    report = twin_report(raw, plan.options, "cpu", plan.declared, (plan.extended_sizes,) * 2, plan.extension)
    assert report.difference > 1e-3 * report.scale


INFERRED = {"seed_oss": ("SeedOssForCausalLM", "llama"), "vaultgemma": ("VaultGemmaForCausalLM", "gemma2")}


@pytest.mark.parametrize("model_type", INFERRED)
def test_inferred_families(model_type: str) -> None:
    """Also where the declaration that fits knows a norm behind each writer, and the model has none."""
    model_class, looks_like = INFERRED[model_type]
    raw = {**AutoConfig.for_model(model_type, **SMALL).to_dict(), "architectures": [model_class]}
    plan = growth.plan_widening(raw, layers=4, width=2)
    assert prove_twin(plan).ok and plan.declared.looks_like == looks_like
