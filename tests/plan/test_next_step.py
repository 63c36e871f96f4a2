"""What a refusal of a growth says to do next: it is another choice than the one that was made, and it
works, or is refused with a further step that does. For every family and every branch of its
declaration."""

from __future__ import annotations

import ast
import re
from functools import cache
from typing import Any

import pytest
from transformers import AutoConfig

from growth import architectures, plan_widening
from growth.errors import GrowthError, IllegalGrowthError
from growth.hf.configs import parse
from growth.hf.model_classes import classes
from growth.plan import beside, taken_over, target_sizes
from growth.plan.plan import TOLERANCE
from growth.proof.miniature import miniature
from growth.proof.twin import prove_twin

Choices = dict[str, Any]
DEFAULTS = {"attention": "heads", "rope": "slots", "scaling": "unit"}
FARTHEST = 3
"""How many steps from a refusal a growth may be."""

ASKED: list[Choices] = [
    {"width": 1.5},
    {"width": 1.3},
    {"width": 1.5, "attention": "head-dim"},
    {"width": 2, "attention": "head-dim", "rope": "pairs"},
    {"width": 1.5, "scaling": "orthogonal"},
    {"width": 2},
]
BRANCHES = [
    (name, branch)
    for name in architectures.known()
    if classes(name)
    for branch in range(len(architectures.find(name).branches))
]
CONTRADICTED: list[tuple[str, int]] = [
    (name, branch)
    for name, branch in BRANCHES
    if {"alibi", "qk_layernorm", "attn_config"} & architectures.find(name).branches[branch].keys()
]
"""Heads that grow in number only, or in width only: these were told to do what they had asked for."""


@cache
def small(model_type: str, branch: int) -> dict[str, Any]:
    architecture = architectures.find(model_type)
    config = AutoConfig.for_model(model_type, **architecture.branches[branch]).to_dict()
    raw = {**config, "architectures": classes(model_type)[:1]}
    return dict(miniature(raw, architecture.at(parse(raw))))


def following(message: str, choices: Choices) -> Choices:
    """The choices that a refusal says to make instead."""
    if keep := re.search(r"Add --keep (\S+) \(in Python keep=(\(.*?\))\) to take all else", message):
        assert ast.literal_eval(keep[2]) == tuple(keep[1].split(","))
        return {**choices, "keep": keep[1]}
    if "Name a larger model, or a width" in message:
        return {"width": 2}
    if shape := re.search(r"The nearest shape that works: (.*)\.$", message):
        sizes = {name: int(size) for name, size in (one.rsplit(" ", 1) for one in shape[1].split(", "))}
        return {**{name: choices[name] for name in (*DEFAULTS, "like", "keep") if name in choices}, "sizes": sizes}
    if alone := re.search(r"Name (\w+) alone", message):
        return {"sizes": {alone[1]: 100}}
    step = re.search(r"--(attention|rope|scaling) ([a-z-]+)", message.rpartition(". ")[2])
    assert step, f"no next step: {message}"
    return {**choices, step[1]: step[2]}


def check_steps(model_type: str, branch: int, choices: Choices, farthest: int = FARTHEST) -> Choices:
    """Follow what refusals say until one is accepted. Returns the choices that were."""
    for _ in range(farthest):
        try:
            plan_widening(small(model_type, branch), **choices)
            return choices
        except IllegalGrowthError as error:
            then = following(str(error), choices)
            assert {**DEFAULTS, **then} != {**DEFAULTS, **choices}, f"asked for already: {error}"
            choices = then
    raise AssertionError(f"{farthest} steps lead nowhere: {choices}")


@pytest.mark.parametrize(("model_type", "branch"), CONTRADICTED)
def test_no_refusal_asks_for_what_was_asked(model_type: str, branch: int) -> None:
    for asked in ASKED:
        check_steps(model_type, branch, asked)


def test_what_was_refused_with_the_choice_it_was_asked_for_is_grown() -> None:
    branches = architectures.find("mpt").branches
    clipped = next(number for number, one in enumerate(branches) if "clip_qkv" in one.get("attn_config", {}))
    plan = plan_widening(small("mpt", clipped), width=1.5)
    assert plan.new_sizes["head_dim"] == plan.old_sizes["head_dim"]
    assert prove_twin(plan).difference <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "branch"), BRANCHES)
def test_every_next_step_is_another_and_works(model_type: str, branch: int) -> None:
    for asked in ASKED:
        check_steps(model_type, branch, asked)


@cache
def wider(model_type: str, branch: int) -> dict[str, Any]:
    """A branch of a family twice as wide, or as wide as it can be."""
    found = check_steps(model_type, branch, {"width": 2})
    return {**dict(plan_widening(small(model_type, branch), **found).new), "vocab_size": 43}


def check_like(model_type: str, branch: int, other: int) -> None:
    """A branch like another one, which differs in more than its sizes, and in its vocabulary."""
    check_steps(model_type, branch, {"like": wider(model_type, other)}, farthest=FARTHEST + 1)


LIKE = [
    ("llama", 0, 1),
    ("llama", 1, 0),
    ("qwen2", 2, 0),
    ("falcon", 0, 1),
    ("t5", 1, 0),
    ("gpt2", 0, 0),
    ("clip", 0, 0),
]


@pytest.mark.parametrize(("model_type", "branch", "other"), LIKE)
def test_like_another_branch(model_type: str, branch: int, other: int) -> None:
    check_like(model_type, branch, other)


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "branch"), BRANCHES)
def test_like_every_other_branch(model_type: str, branch: int) -> None:
    for other in range(len(architectures.find(model_type).branches)):
        check_like(model_type, branch, other)


def test_a_law_that_blames_what_nobody_named_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says to take other heads, and the other model has these."""
    monkeypatch.setattr(taken_over.TakenOver, "widened", lambda self, choose: choose())
    with pytest.raises(AssertionError, match="asked for already"):
        check_like("stablelm", 3, 0)


def test_a_word_that_keeps_something_else_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "words_for", lambda name: ["layers"])
    with pytest.raises(AssertionError, match=r"asked for already|lead nowhere"):
        check_like("llama", 0, 1)


def test_the_check_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals of growths that nobody asked for end the search, as they did."""
    falcon = [(name, branch) for name, branch in CONTRADICTED if name == "falcon"]
    monkeypatch.setattr(target_sizes, "_not_beyond", lambda check, model, kept: check)
    with pytest.raises(AssertionError, match="asked for already"):
        for name, branch in falcon:
            for asked in ASKED:
                check_steps(name, branch, asked)


def test_a_shape_that_does_not_work_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    right = target_sizes._refusal

    def wrong(*args: Any) -> GrowthError:
        said = str(right(*args))
        return IllegalGrowthError(re.sub(r"hidden_size (\d+)", lambda found: f"hidden_size {int(found[1]) + 2}", said))

    monkeypatch.setattr(target_sizes, "_refusal", wrong)
    with pytest.raises(AssertionError):
        check_steps("bert", 0, {"width": 1.5})
