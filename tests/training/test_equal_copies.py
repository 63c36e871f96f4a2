"""The default makes copies differ; equal copies beside an optimizer bring a warning."""

from __future__ import annotations

import inspect
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD, AdamW

import growth
from growth.plan.symmetry import AUTO
from support.optimizers import llama, step
from support.ranks import mixtral


def optimizer_of(model: torch.nn.Module) -> AdamW:
    return AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)


def apart(model: Any) -> float:
    one, other = model.model.layers[0].mlp.up_proj.weight.detach().chunk(2)
    return float((one - other).abs().max())


def warned(model: Any = None, optimizer: Any = None, steps: int = 1, **choices: Any) -> list[warnings.WarningMessage]:
    model = llama() if model is None else model
    optimizer = optimizer_of(model) if optimizer is None else optimizer(model.parameters(), lr=0.1)
    step(model, optimizer, steps)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        growth.widen(model, optimizer=optimizer, **choices)
    return [each for each in caught if "train as one" in str(each.message)]


@pytest.mark.parametrize(("choices", "parts"), [({}, True), ({"symmetry": "none"}, False), ({"noise": 0}, False)])
def test_by_default_copies_part_in_training(choices: dict[str, Any], parts: bool) -> None:
    model = llama()
    optimizer = optimizer_of(model)
    step(model, optimizer, 2)
    grown = growth.widen(model, width=2, optimizer=optimizer, **choices)
    assert grown.optimizer is not None and grown.plan.options.symmetry == ("noise:2" if parts else "none")
    assert apart(grown.model) == 0 or parts
    step(grown.model, grown.optimizer, 5)
    assert (apart(grown.model) > 1e-3) is parts


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        ({"width": 2}, False),
        ({"width": 2, "symmetry": "split:1/2"}, False),
        ({"width": 2, "symmetry": "none"}, True),
        ({"width": 2, "noise": 0}, True),
        ({"width": 2, "symmetry": "none", "moments": "reset"}, True),
        ({"width": 2, "symmetry": "none", "moments": "fresh"}, False),
        ({"layers": 3, "symmetry": "none"}, False),
    ],
    ids=str,
)
def test_equal_copies_beside_an_optimizer_bring_a_warning(choices: dict[str, Any], told: bool) -> None:
    found = warned(**choices)
    assert [each.category for each in found] == [UserWarning] * told
    assert all(each.filename == __file__ and "Leave symmetry out" in str(each.message) for each in found)


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        ({}, False),
        ({"noise": 0}, True),
        ({"symmetry": "split:1/2", "width": 2}, True),
        ({"noise": 0, "moments": "fresh"}, False),
        ({"noise": 0, "expert_size": 16}, False),
    ],
    ids=str,
)
def test_equal_experts_too(choices: dict[str, Any], told: bool) -> None:
    """Copies that share out an expert's features differ; a split of width leaves those of experts equal."""
    torch.manual_seed(0)
    found = warned(mixtral(), experts=8, experts_per_token=4, **choices)
    assert [each.category for each in found] == [UserWarning] * told
    assert all("the copies of experts are equal" in str(each.message) for each in found)


@pytest.mark.parametrize(
    ("optimizer", "steps", "told"), [(SGD, 1, True), (partial(SGD, momentum=0.9), 1, False), (None, 0, True)], ids=str
)
def test_fresh_moments_part_copies_only_where_there_are_moments(optimizer: Any, steps: int, told: bool) -> None:
    assert bool(warned(None, optimizer, steps, width=2, symmetry="none", moments="fresh")) is told


def test_no_optimizer_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        growth.widen(llama(), width=2, symmetry="none")


def test_one_default_everywhere(tmp_path: Path) -> None:
    model = llama()
    model.save_pretrained(tmp_path / "small")
    plans = [
        growth.plan_widening(model.config, width=2),
        growth.plan_widening(tmp_path / "small", width=2),
        growth.widen(model, width=2).plan,
        growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", width=2).plan,
    ]
    assert {plan.options.symmetry for plan in plans} == {"noise:2"}
    for function in (growth.widen, growth.widen_checkpoint, growth.plan_widening, growth.training.staged):
        assert inspect.signature(function).parameters["symmetry"].default == AUTO
