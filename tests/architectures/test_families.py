"""The claim itself, for every declared family: every class, grown by what its declaration does not
refuse, computes the same in exact arithmetic.

The cases come from the declarations: every class of every family, under every config its
declaration branches on, as small as its twin. Where no shape near a fractional width works for a
family, the refusal names the nearest that does, and that one is grown instead. What is refused for
another reason is in test_refusals.py: here a refusal fails the test.

Reading and writing files does not depend on the choices. So the choices are compared in memory, and
one family of each structure goes through a folder and plain ``from_pretrained``, where it also
generates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch

import growth
from growth import architectures
from growth.architectures import FINAL, Linear, registry
from growth.errors import IllegalGrowthError
from growth.plan.plan import TOLERANCE
from growth.proof.miniature import build_exact, loud
from support.covering import pairwise
from support.families import difference, exact
from support.family_cases import (
    ALL,
    MAIN,
    ODD,
    QUICK,
    Choice,
    as_choice,
    check_on_disk,
    check_twin,
    factors,
    feed_forward_alone,
    first_accepted,
    is_refused,
    label,
    load,
    odd_sizes,
    planned,
    small_config,
)

exactly = pytest.fixture(exact, autouse=True)

STRUCTURES = {
    "bert": "norms after the sub-layers, a head with a transform",
    "gpt2": "Conv1D, fused queries, keys and values",
    "bloom": "ALiBi, fused head by head",
    "falcon": "fused by groups of heads",
    "llama": "rotary positions, RMSNorm",
    "gpt_neox": "rotary positions of a part of each head",
    "gemma2": "gains to which 1 is added, norms on both sides",
    "qwen2_moe": "experts, and shared ones",
    "deepseek_v3": "attention through latents",
    "t5": "two stacks, a tied head, relative positions",
    "marian": "tables that a checkpoint may lack",
    "albert": "a factorised embedding, layers that share weights",
    "xlnet": "projections of three axes",
    "esm": "frequencies in the checkpoint",
    "deberta-v2": "disentangled attention",
    "clip": "two towers, pixels",
}
"""Families, one of each structure: they go through files by default, all of them in the slow tests."""


WIDER: Choice = {"width": 2, "noise": 0.3, "attention": "head-dim", "scaling": "unit"}
UNEVEN: Choice = {"width": 1.5, "noise": 0.3}
every_family = pytest.mark.parametrize(("model_type", "model_class", "branch"), MAIN, ids=label)
every_structure = pytest.mark.parametrize(
    ("model_type", "model_class", "branch"),
    [pytest.param(*case, marks=() if case[0] in STRUCTURES else pytest.mark.slow) for case in MAIN],
    ids=label,
)


def drawn(raw: dict[str, Any], number: int, branch: Mapping[str, Any] = MappingProxyType({})) -> Choice:
    """One of the odd choices that the declaration accepts, in turn. A branch that ties the head grows
    by ``unit``: under ``orthogonal`` write and read are equal, and a missing `Dual` would not be seen."""
    unit = [choice for choice in ODD if choice["scaling"] == "unit"]
    return first_accepted(raw, unit if branch.get("tie_word_embeddings") else ODD, number)


@pytest.mark.parametrize(
    ("model_type", "model_class", "branch", "number"),
    [
        pytest.param(*case, number, marks=() if case in MAIN or number % 2 else pytest.mark.slow)
        for case in QUICK
        for number in [ALL.index(case)]
    ],
    ids=label,
)
def test_every_class(model_type: str, model_class: str, branch: dict[str, Any], number: int) -> None:
    raw = small_config(model_type, model_class, branch)
    check_twin(raw, drawn(raw, number, branch))


@pytest.mark.parametrize("number", range(4))
def test_a_tied_head_without_its_dual_is_seen(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    branch = {"tie_word_embeddings": True}
    llama = architectures.find("llama")
    monkeypatch.setitem(registry._REGISTRY, "llama", replace(llama, laws={**llama.laws, FINAL: Linear()}))
    raw = small_config("llama", "LlamaForCausalLM", branch)
    with pytest.raises(AssertionError):
        check_twin(raw, drawn(raw, number, branch))


@pytest.mark.parametrize("model_type", STRUCTURES)
def test_one_family_of_each_structure(model_type: str) -> None:
    """The first to look at when something is wrong (`make smoke`)."""
    check_twin(small_config(*next(case for case in MAIN if case[0] == model_type)), {"width": 3, "noise": 0.4})


@every_structure
def test_wider_heads_and_a_fraction(model_type: str, model_class: str, branch: dict[str, Any]) -> None:
    raw = small_config(model_type, model_class, branch)
    check_twin(raw, wider_if_accepted(raw))
    check_twin(raw, UNEVEN)


def wider_if_accepted(raw: dict[str, Any]) -> Choice:
    return first_accepted(raw, [WIDER, {**WIDER, "attention": "heads"}], 0)


@every_family
def test_odd_sizes(model_type: str, model_class: str, branch: dict[str, Any]) -> None:
    """Sizes named one by one, as far from whole multiples as the family allows."""
    raw = small_config(model_type, model_class, branch)
    sizes = odd_sizes(raw)
    plan = check_twin(raw, {"sizes": sizes, "noise": 0.4, "attention": "heads", "scaling": "unit"})
    odd = {name for name, size in plan.new_sizes.items() if size % (plan.old_sizes[name] or 1)}
    assert odd & sizes.keys() or not any(name.endswith("intermediate_size") for name in sizes)


@every_structure
def test_files_generate_the_same(model_type: str, model_class: str, branch: dict[str, Any], tmp_path: Path) -> None:
    raw = small_config(model_type, model_class, branch)
    check_on_disk(raw, drawn(raw, [*STRUCTURES, model_type].index(model_type)), tmp_path)


@every_structure
def test_memory_and_disk_agree_bit_for_bit_and_grow_again(
    model_type: str, model_class: str, branch: dict[str, Any], tmp_path: Path
) -> None:
    raw = small_config(model_type, model_class, branch)
    saved = build_exact(raw)
    loud(saved, 1)
    saved.save_pretrained(tmp_path / "small")
    choice = {**wider_if_accepted(raw), "seed": 7}
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", **choice)
    grown = growth.widen(load(tmp_path / "small", model_class), **choice)
    on_disk, in_memory = load(tmp_path / "wide", model_class), grown.model
    assert in_memory.state_dict().keys() == on_disk.state_dict().keys()
    assert all(torch.equal(in_memory.state_dict()[name], value) for name, value in on_disk.state_dict().items())
    once_more, _ = planned(on_disk.config.to_dict() | {"architectures": [model_class]}, UNEVEN)
    again = growth.widen_checkpoint(tmp_path / "wide", tmp_path / "wider", **once_more)
    assert difference(on_disk, load(tmp_path / "wider", model_class), again.plan) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "model_class", "branch"), ALL, ids=label)
def test_every_class_by_every_pair_of_choices(model_type: str, model_class: str, branch: dict[str, Any]) -> None:
    """Of attention, scaling, width and noise, every two values that the declaration accepts together."""
    raw = small_config(model_type, model_class, branch)
    rows = pairwise(factors(model_type), lambda row: not is_refused(raw, as_choice(row)))
    for choice in [as_choice(row) for row in rows] or [feed_forward_alone(raw)]:
        check_twin(raw, choice)


def test_a_refusal_fails_and_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A declaration that does not say what is refused makes the tests above fail."""
    raw = small_config("bert", "BertForMaskedLM", {})
    refused = ODD[1]
    assert is_refused(raw, refused) and drawn(raw, 1) != refused
    silent = replace(architectures.find("bert"), refuses=())
    monkeypatch.setitem(registry._REGISTRY, "bert", silent)
    assert drawn(raw, 1) == refused
    with pytest.raises(IllegalGrowthError, match="the norms' epsilon"):
        check_twin(raw, drawn(raw, 1))
