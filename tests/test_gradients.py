"""Gradients of the grown model are the old ones under the roles' gradient coefficients: what optimizer growth will stand on."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from families import LANGUAGE_MODELS, VOCABULARY, Case, build, exact
from test_families import MAIN, label, may_be_refused, small_config
from torch import Tensor
from transformers import PreTrainedModel

import growth
from growth.disk_names import to_disk
from growth.equivalence.outputs import random_inputs
from growth.equivalence.twin import build_exact, loud
from growth.errors import IllegalGrowthError
from growth.plan import TOLERANCE, TensorPlan
from growth.rules.attention import RAW_KEY, RAW_QUERY

exactly = pytest.fixture(exact, autouse=True)


def gradients(model: PreTrainedModel) -> dict[str, Tensor]:
    logits = model(**random_inputs(model, VOCABULARY)).logits
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    (logits * weights).sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def expected(old: Tensor, plan: TensorPlan) -> Tensor:
    for axis, dimension in enumerate(plan.dimensions):
        shape = [1] * old.ndim
        shape[axis] = -1
        old = old.index_select(axis, torch.from_numpy(dimension.source)) * torch.from_numpy(dimension.gradient).reshape(shape)
    return old


@pytest.mark.parametrize("choice", list(itertools.product(("heads", "head-dim"), ("unit", "orthogonal"), (2, 3))), ids=str)
@pytest.mark.parametrize("case", LANGUAGE_MODELS, ids=str)
def test_gradients_follow_the_roles(case: Case, choice: tuple[str, str, int]) -> None:
    attention, scaling, width = choice
    changes: dict[str, Any] = {"layer_norm_eps": 1e-12} if case.model_type in ("bert", "roberta") else {}
    small = build(case, tied=width == 2, **changes)
    result = growth.widen(small, width=width, attention=attention, scaling=scaling)
    before, after = gradients(small), gradients(result.model)
    assert before.keys() == after.keys()
    for name, old in before.items():
        plan = result.plan.tensors[name]
        want, got = expected(old, plan), after[name]
        free = torch.from_numpy(plan.dimensions[0].gradient == 0)
        if free.any():
            # Rotary slots that start silent: keys there are zero and learn from the first step, queries there wait for them.
            assert (got[free].abs().sum() > 0) == ("k_proj" in name)
            want, got = want[~free], got[~free]
        assert float((want - got).abs().max()) <= TOLERANCE * max(1.0, float(want.abs().max())), name


LOGITS = ("logits", "logits_per_text", "prediction_logits", "start_logits")


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["heads", "head-dim"])
@pytest.mark.parametrize(("model_type", "model_class", "branch"), MAIN, ids=label)
def test_gradients_of_every_family(model_type: str, model_class: str, branch: dict[str, Any], attention: str) -> None:
    """By names on disk. Aside from coefficients of 0, and what a norm makes into queries and keys of which some are silent: no old gradient
    says what is received there."""
    small = build_exact(small_config(model_type, model_class, branch))
    loud(small, 1)
    try:
        result = growth.widen(small, width=2, attention=attention)
    except IllegalGrowthError as refusal:
        assert may_be_refused(model_type, {"attention": attention, "scaling": "unit"}), refusal
        return
    found = []
    for model in (small, result.model):
        outputs = model(**random_inputs(model, VOCABULARY))
        logits = next((outputs[name] for name in LOGITS if name in outputs), None)
        if logits is None:
            return  # a base class: what it returns grows too
        weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        (logits * weights).sum().backward()
        grads = {name: torch.zeros_like(value) if value.grad is None else value.grad for name, value in model.named_parameters()}
        found.append(to_disk(model, grads))
    before, after = found
    slots = result.plan.architecture.rotary and attention == "head-dim"
    for name, old in before.items():
        plan = result.plan.tensors[name]
        if slots and any(space in (RAW_QUERY, RAW_KEY) for role in plan.roles for space in role.spaces()):
            continue
        want, got = expected(old, plan), after[name]
        known = torch.ones_like(want)
        for axis, dimension in enumerate(plan.dimensions):
            shape = [1] * old.ndim
            shape[axis] = -1
            known *= torch.from_numpy((dimension.value != 0) & (dimension.gradient != 0)).reshape(shape)
        assert float(((want - got) * known).abs().max()) <= TOLERANCE * max(1.0, float(want.abs().max())), name


def test_swapped_coefficients_fail() -> None:
    """The check can fail: value coefficients in place of gradient coefficients."""
    case = next(case for case in LANGUAGE_MODELS if case.model_type == "gpt2")
    small = build(case)
    result = growth.widen(small, width=3)
    before, after = gradients(small), gradients(result.model)
    name = "transformer.wpe.weight"
    plan = result.plan.tensors[name]
    wrong = before[name]
    for axis, dimension in enumerate(plan.dimensions):
        shape = [1, 1]
        shape[axis] = -1
        wrong = wrong.index_select(axis, torch.from_numpy(dimension.source)) * torch.from_numpy(dimension.value).reshape(shape)
    assert float((wrong - after[name]).abs().max()) > 1e-3
