"""The claim itself, for every declared family: saved to disk, widened, loaded by stock
transformers, equal in exact arithmetic.

The cases come from the declarations: every class of every family, under every config its
declaration branches on, as small as its twin. Where no shape near a fractional width works for a
family, the refusal names the nearest that does, and that one is grown instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import growth
from growth import architectures
from growth.errors import IllegalGrowthError
from growth.hf.model_classes import classes
from growth.plan.options import chosen
from growth.plan.plan import TOLERANCE
from growth.proof.miniature import build_exact, loud
from growth.proof.twin import twin_report
from support.families import at_nearest, difference, exact
from support.family_cases import (
    ALL,
    MAIN,
    ODD,
    Choice,
    check,
    choices,
    fractional,
    label,
    load,
    may_be_refused,
    odd_sizes,
    small_config,
)

exactly = pytest.fixture(exact, autouse=True)

QUICK = [
    (*case, ODD[number % 4]) for number, case in enumerate(ALL) if not case[2] or case[1] in [main[1] for main in MAIN]
]
"""Every class under the default config, and one class under every branch, each by one odd
choice."""


@pytest.mark.parametrize(("model_type", "model_class", "branch", "choice"), QUICK, ids=label)
def test_every_class(
    model_type: str, model_class: str, branch: dict[str, Any], choice: Choice, tmp_path: Path
) -> None:
    check(model_type, model_class, branch, choice, tmp_path)


@pytest.mark.parametrize(("model_type", "model_class", "branch"), MAIN, ids=label)
def test_odd_sizes(model_type: str, model_class: str, branch: dict[str, Any], tmp_path: Path) -> None:
    """Sizes named one by one, as far from whole multiples as the family allows."""
    sizes = odd_sizes(small_config(model_type, model_class, branch))
    choice = {"sizes": sizes, "noise": 0.4, "attention": "heads", "scaling": "unit"}
    plan = check(model_type, model_class, branch, choice, tmp_path)
    assert plan is not None
    odd = {name for name, size in plan.new_sizes.items() if size % (plan.old_sizes[name] or 1)}
    assert odd & sizes.keys() or not any(name.endswith("intermediate_size") for name in sizes)


@pytest.mark.parametrize(("model_type", "model_class", "branch"), MAIN, ids=label)
def test_memory_and_disk_agree_bit_for_bit_and_grow_again(
    model_type: str, model_class: str, branch: dict[str, Any], tmp_path: Path
) -> None:
    saved = build_exact(small_config(model_type, model_class, branch))
    loud(saved, 1)
    saved.save_pretrained(tmp_path / "small")
    choice: Choice = {"width": 2, "attention": "head-dim", "noise": 0.3, "seed": 7}
    try:
        growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", **choice)
    except IllegalGrowthError:
        choice["attention"] = "heads"
        growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", **choice)
    grown = growth.widen(load(tmp_path / "small", model_class), **choice)
    on_disk, in_memory = load(tmp_path / "wide", model_class), grown.model
    assert in_memory.state_dict().keys() == on_disk.state_dict().keys()
    assert all(torch.equal(in_memory.state_dict()[name], value) for name, value in on_disk.state_dict().items())
    once_more: Choice = {"width": 1.5, "noise": 0.3}
    try:
        again = growth.widen_checkpoint(tmp_path / "wide", tmp_path / "wider", **once_more)
    except IllegalGrowthError as refusal:
        nearest = at_nearest(once_more, refusal)
        assert nearest, refusal
        again = growth.widen_checkpoint(tmp_path / "wide", tmp_path / "wider", **nearest)
    assert difference(on_disk, load(tmp_path / "wider", model_class), again.plan) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "model_class", "branch", "choice"),
    [(*case, choice) for case in MAIN for choice in choices(case[0])],
    ids=label,
)
def test_every_choice(
    model_type: str, model_class: str, branch: dict[str, Any], choice: Choice, tmp_path: Path
) -> None:
    check(model_type, model_class, branch, choice, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "model_class", "branch"), ALL, ids=label)
def test_every_class_by_every_choice_in_the_twin(model_type: str, model_class: str, branch: dict[str, Any]) -> None:
    raw = small_config(model_type, model_class, branch)
    for choice in choices(model_type):
        try:
            report = twin_report(raw, chosen(choice))
        except IllegalGrowthError as refusal:
            nearest = at_nearest(choice, refusal)
            assert fractional(choice) if nearest else may_be_refused(model_type, choice), refusal
            if nearest is None:
                continue
            report = twin_report(raw, chosen(nearest))
        assert report.difference <= TOLERANCE, choice


def test_every_family_is_tested() -> None:
    assert {case[0] for case in MAIN} | {name for name in architectures.known() if not classes(name)} == set(
        architectures.known()
    )
