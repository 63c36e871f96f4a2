"""Anything wrong in how an optimizer grows makes the wide model's losses depart from the small one's:
each coefficient, each degree, each setting."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from torch.optim import SGD, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel

import growth
from growth.algebra.dimensions import Dimension
from growth.algebra.roles import Gain, Reads, Role, Scale, Writes
from growth.plan.plan import Plan
from growth.plan.tensor_plan import TensorPlan
from growth.proof.float64 import exact_arithmetic
from growth.training import moments
from growth.training.factors import Factors, SettingFactors, factors_of
from growth.training.optimizer import grow_optimizer
from growth.training.optimizer_kinds import KINDS, Kind
from support.families import exact
from support.trajectories import SAME, MakeOptimizer, adamw, parting, trained

exactly = pytest.fixture(exact, autouse=True)
STEPS = 8
FAR = 1e-6
"""No mutant comes nearer than that."""

CLASSES = {"llama": "LlamaForCausalLM", "dinov2": "Dinov2ForImageClassification"}
OPTIMIZERS: dict[str, MakeOptimizer] = {
    "AdamW": adamw,
    "SGD": lambda p: SGD(p, lr=1e-2, momentum=0.9, weight_decay=0.05),
    "RMSprop": lambda p: RMSprop(p, lr=1e-3, momentum=0.5, centered=True, weight_decay=0.1, eps=1e-3),
}


@cache
def before(model_type: str, name: str) -> tuple[PreTrainedModel, Optimizer, PreTrainedModel, Plan]:
    """A model and its optimizer at the point of growth, what it grew to and how."""
    model_class = CLASSES[model_type]
    with exact_arithmetic():
        model, old, _ = trained(
            model_type,
            model_class,
            optimizer=OPTIMIZERS[name],
            scheduler=lambda o: LambdaLR(o, lambda step: 1.0),
            steps=STEPS,
        )
        grown = growth.widen(model, width=3, symmetry="none")
    return model, old, grown.model, grown.plan


def distance(name: str, plan: Plan | None = None, model_type: str = "llama") -> float:
    """How far the losses part, with the state and the settings that a plan makes of them."""
    model, old, wide, right = before(model_type, name)
    model, old = copy.deepcopy((model, old))
    wide = copy.deepcopy(wide)
    grown = grow_optimizer(old, model, wide, plan or right)
    return parting((model, old, None), (wide, grown.optimizer, None), STEPS)


def wrong(role: type[Role], model_type: str = "llama") -> Plan:
    """The gradients of a role take the value coefficients, or twice their own where both are the
    same."""

    def mutated(tensor: TensorPlan) -> TensorPlan:
        pairs = zip(tensor.roles, tensor.dimensions, strict=True)
        return replace(tensor, dimensions=tuple(swapped(d) if type(r) is role else d for r, d in pairs))

    def swapped(d: Dimension) -> Dimension:
        return replace(d, gradient=d.value if (d.value != d.gradient).any() else 2 * d.gradient) if d.grows else d

    plan = before(model_type, "AdamW")[3]
    tensors = {name: mutated(tensor) for name, tensor in plan.tensors.items()}
    assert any(tensors[name] is not plan.tensors[name] for name in tensors)
    return replace(plan, tensors=tensors)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_a_mutation_they_agree(name: str) -> None:
    assert distance(name) <= SAME


@pytest.mark.parametrize("name", ["AdamW", "SGD"])
@pytest.mark.parametrize("role", [Writes, Reads, Gain])
def test_a_wrong_gradient_coefficient_is_seen(role: type[Role], name: str) -> None:
    assert distance(name, wrong(role)) > FAR


@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_a_wrong_gradient_coefficient_of_a_layer_scale_is_seen(name: str) -> None:
    assert distance(name, None, "dinov2") <= SAME
    assert distance(name, wrong(Scale, "dinov2"), "dinov2") > FAR


STATES: dict[str, tuple[str, type[Optimizer], Kind]] = {
    "exp_avg as a square": ("AdamW", AdamW, Kind({"exp_avg": 2, "exp_avg_sq": 2})),
    "exp_avg_sq not squared": ("AdamW", AdamW, Kind({"exp_avg": 1, "exp_avg_sq": 1})),
    "exp_avg not scaled": ("AdamW", AdamW, Kind({"exp_avg": 0, "exp_avg_sq": 2})),
    "decay taken for coupled": ("AdamW", AdamW, replace(KINDS[AdamW], decoupled=lambda group: False)),
    "an update of degree 1": ("AdamW", AdamW, replace(KINDS[AdamW], degree=1)),
    "steps taken for relative": ("AdamW", AdamW, replace(KINDS[AdamW], own_scale=True)),
    "momentum not scaled": ("SGD", SGD, Kind({"momentum_buffer": 0}, degree=1)),
    "an update of degree 0": ("SGD", SGD, Kind({"momentum_buffer": 1}, degree=0)),
    "decay taken for decoupled": ("RMSprop", RMSprop, replace(KINDS[RMSprop], decoupled=lambda group: True)),
    "a momentum of degree 1": ("RMSprop", RMSprop, Kind({"square_avg": 2, "grad_avg": 1, "momentum_buffer": 1})),
    "a mean gradient of degree 0": ("RMSprop", RMSprop, Kind({"square_avg": 2, "grad_avg": 0, "momentum_buffer": 0})),
}


@pytest.mark.parametrize("what", STATES)
def test_a_wrong_kind_is_seen(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, kind, mutant = STATES[what]
    monkeypatch.setitem(KINDS, kind, mutant)
    assert distance(name) > FAR


def test_moments_grown_like_weights_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = moments.state_plan

    def by_value(tensor: TensorPlan, *rest: Any) -> TensorPlan:
        return right(replace(tensor, dimensions=tuple(replace(d, gradient=d.value) for d in tensor.dimensions)), *rest)

    monkeypatch.setattr(moments, "state_plan", by_value)
    assert distance("AdamW") > FAR


SETTINGS = [(name, setting) for name in OPTIMIZERS for setting in ("rate", "epsilon", "decay")]
SETTINGS.remove(("SGD", "epsilon"))  # it has none


@pytest.mark.parametrize(("name", "setting"), SETTINGS)
def test_a_setting_not_scaled_is_seen(name: str, setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = SettingFactors.of
    monkeypatch.setattr(SettingFactors, "of", staticmethod(lambda *args: replace(right(*args), **{setting: 1.0})))
    assert distance(name) > FAR


def test_factors_say_what_is_even() -> None:
    factors = factors_of(before("llama", "AdamW")[3].tensors["model.layers.0.mlp.down_proj.weight"])
    assert factors == Factors(pytest.approx(1 / 3), pytest.approx(1 / 3), True, False)  # type: ignore[arg-type]
