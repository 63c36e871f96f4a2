"""Gradients of the grown model are the old ones under the roles' gradient coefficients: what
optimizer growth will stand on.

At whole multiples and at uneven counts alike, with one exception, where the coefficients say too
little: the parameters that write a space which carries its mean (that of a pre-norm LayerNorm, at
no whole multiple). Its norms take the mean over all m coordinates, and those that carry the mean, m
- r n of them, are no copies, so that no old gradient says what is received there. What they
receive, G in all, the norms spread over the r n copies: ``new[j] = read[j] * old[source[j]] - G /
(r n)``. This follows from the chain rule (``old[i]`` is the sum of ``write[j] * new[j]`` over the
copies j of i, plus ``write / n * G``) and from a norm's shifting the gradient of all coordinates
alike. What is read, what lies inside a branch, and a norm's own gain and bias keep their
coefficients."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

import growth
from growth.algebra.roles import Writes
from growth.errors import IllegalGrowthError
from growth.hf.tensor_names import to_disk
from growth.plan.plan import TOLERANCE, Plan
from growth.plan.tensor_plan import TensorPlan
from growth.proof.inputs import random_inputs
from growth.proof.miniature import build_exact, loud
from growth.rules.attention import RAW_KEY, RAW_QUERY
from support.families import LANGUAGE_MODELS, VOCABULARY, Case, build, exact
from support.family_cases import WITH_LOGITS, Choice, is_refused, label, nearest, small_config
from support.trajectories import LOGITS

exactly = pytest.fixture(exact, autouse=True)


def gradients(model: PreTrainedModel) -> dict[str, Tensor]:
    logits = model(**random_inputs(model, VOCABULARY)).logits
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    (logits * weights).sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def along(values: Any, ndim: int, axis: int) -> Tensor:
    shape = [1] * ndim
    shape[axis] = -1
    return torch.from_numpy(values).reshape(shape)


def expected(old: Tensor, plan: TensorPlan) -> Tensor:
    for axis, dimension in enumerate(plan.dimensions):
        grown = old.index_select(axis, torch.from_numpy(dimension.source))
        if dimension.mean is not None:
            grown = torch.where(along(dimension.mean, old.ndim, axis), old.mean(axis, keepdim=True), grown)
        old = grown * along(dimension.gradient, old.ndim, axis)
    return old


def spread(plan: TensorPlan) -> int | None:
    """The dimension along which a tensor writes a space that carries its mean and is normed, if
    there is one."""
    dimensions = enumerate(zip(plan.roles, plan.dimensions, strict=True))
    return next(
        (
            axis
            for axis, (role, d) in dimensions
            if isinstance(role, Writes) and d.averages and not d.gradient[d.mean].any()
        ),
        None,
    )


def without_spread(want: Tensor, got: Tensor, plan: TensorPlan, axis: int) -> tuple[Tensor, Tensor]:
    """Both at the copies alone, and the second without what the means receive, which is shared out
    evenly."""
    mean = torch.from_numpy(plan.dimensions[axis].mean)
    received = got.index_select(axis, torch.where(mean)[0]).sum(axis, keepdim=True)
    copies = torch.where(~mean)[0]
    return want.index_select(axis, copies), got.index_select(axis, copies) + received / len(copies)


def grown(small: PreTrainedModel, choice: Choice) -> growth.Grown:
    """Grown so, or to the nearest shape that works."""
    try:
        return growth.widen(small, **{"symmetry": "none", **choice})
    except IllegalGrowthError as refusal:
        return growth.widen(small, **{"symmetry": "none", **nearest(choice, refusal)})


ATTENTION, SCALING, WIDTHS = ("heads", "head-dim"), ("unit", "orthogonal"), (2, 3, 1.5)


def gradient_cases() -> Iterator[Any]:
    """Every model by every choice; by default each model by three that hold every attention, scaling
    and width, four models making up the whole product."""
    for number, case in enumerate(LANGUAGE_MODELS):
        quick = {
            (ATTENTION[(number + turn % 2) % 2], SCALING[(number // 2 + turn // 2) % 2], width)
            for turn, width in enumerate(WIDTHS)
        }
        for choice in itertools.product(ATTENTION, SCALING, WIDTHS):
            yield pytest.param(case, choice, marks=() if choice in quick else pytest.mark.slow)


@pytest.mark.parametrize(("case", "choice"), [*gradient_cases()], ids=str)
def test_gradients_follow_the_roles(case: Case, choice: tuple[str, str, float]) -> None:
    attention, scaling, width = choice
    changes: dict[str, Any] = {"layer_norm_eps": 1e-12} if case.model_type in ("bert", "roberta") else {}
    small = build(case, tied=width == 2, **changes)
    result = grown(small, {"width": width, "attention": attention, "scaling": scaling})
    before, after = gradients(small), gradients(result.model)
    assert before.keys() == after.keys()
    for name, old in before.items():
        plan = result.plan.tensors[name]
        want, got = expected(old, plan), after[name]
        if (axis := spread(plan)) is not None:
            assert float((want - got).abs().max()) > 1e-6
            want, got = without_spread(want, got, plan, axis)
            assert float((want - got).abs().max()) <= TOLERANCE * max(1.0, float(want.abs().max())), name
            continue
        free = torch.from_numpy(plan.dimensions[0].gradient == 0)
        if free.any():
            # Rotary slots that start silent: keys there are zero and learn from the first step,
            # queries there wait for them. A norm's gain waits where what it normalises is 0.
            assert (float(got[free].abs().max()) > 1e-9) == ("k_proj" in name)
            want, got = want[~free], got[~free]
        assert float((want - got).abs().max()) <= TOLERANCE * max(1.0, float(want.abs().max())), name


@pytest.mark.slow
@pytest.mark.parametrize("width", [2, 1.5])
@pytest.mark.parametrize(("model_type", "model_class", "branch"), WITH_LOGITS, ids=label)
def test_gradients_of_every_family(model_type: str, model_class: str, branch: dict[str, Any], width: float) -> None:
    """By names on disk, for every attention that the declaration accepts."""
    raw = small_config(model_type, model_class, branch)
    wanted: list[Choice] = [{"width": width, "attention": attention} for attention in ATTENTION]
    accepted = [choice for choice in wanted if not is_refused(raw, choice)]
    assert accepted
    for choice in accepted:
        small = build_exact(raw)
        loud(small, 1)
        check_gradients(small, grown(small, choice))


def check_gradients(small: PreTrainedModel, result: growth.Grown) -> None:
    """Aside from coefficients of 0, and what a norm makes into queries and keys of which some are
    silent: no old gradient says what is received there."""
    found = []
    for model in (small, result.model):
        outputs = model(**random_inputs(model, VOCABULARY))
        logits = next(outputs[name] for name in LOGITS if name in outputs)
        weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        (logits * weights).sum().backward()
        grads = {
            name: torch.zeros_like(value) if value.grad is None else value.grad
            for name, value in model.named_parameters()
        }
        found.append(to_disk(model, grads))
    before, after = found
    slots = result.plan.architecture.rotary and any(
        new > result.plan.old_sizes[name] for name, new in head_dims(result.plan)
    )
    compared = 0
    for name, old in before.items():
        plan = result.plan.tensors[name]
        if slots and any(space in (RAW_QUERY, RAW_KEY) for role in plan.roles for space in role.spaces()):
            continue
        want, got = expected(old, plan), after[name]
        known = torch.ones_like(want)
        for axis, dimension in enumerate(plan.dimensions):
            known *= along((dimension.value != 0) & (dimension.gradient != 0), old.ndim, axis)
        if (axis := spread(plan)) is not None:
            known = known.index_select(axis, torch.where(~torch.from_numpy(plan.dimensions[axis].mean))[0])
            want, got = without_spread(want, got, plan, axis)
        assert float(((want - got) * known).abs().max()) <= TOLERANCE * max(1.0, float(want.abs().max())), name
        compared += bool((want * known).any())
    assert compared > len(before) / 4


def head_dims(plan: Plan) -> list[tuple[str, int]]:
    return [(name, size) for name, size in plan.new_sizes.items() if name.endswith(("head_dim", "rotary_dim"))]


def test_swapped_coefficients_fail() -> None:
    """The check can fail: value coefficients in place of gradient coefficients."""
    case = next(case for case in LANGUAGE_MODELS if case.model_type == "gpt2")
    small = build(case)
    result = growth.widen(small, width=3, symmetry="none")
    before, after = gradients(small), gradients(result.model)
    name = "transformer.wpe.weight"
    plan = result.plan.tensors[name]
    wrong = before[name]
    for axis, dimension in enumerate(plan.dimensions):
        wrong = wrong.index_select(axis, torch.from_numpy(dimension.source)) * along(dimension.value, 2, axis)
    assert float((wrong - after[name]).abs().max()) > 1e-3
