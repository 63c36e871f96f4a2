"""The state of an optimizer, grown by the same plan as the weights.

A grown parameter's gradient is the old one times g, the product of its dimensions' gradient
coefficients (`growth.algebra.roles`). So a state that is of degree p in the gradient grows by
``g**p``: Adam's ``exp_avg`` by g, ``exp_avg_sq`` by its square. Where g is unknown (what is born
silent), the state starts at 0."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel

from growth.algebra.dimensions import Dimension
from growth.algebra.maps import Floats
from growth.hf.tensor_names import from_disk, to_disk
from growth.plan.plan import Plan, TensorPlan
from growth.plan.symmetry import UNBROKEN
from growth.training.optimizer_kinds import Kind
from growth.weights.grow import grow_tensor

Moments = Literal["preserve", "fresh", "reset"]


def grow_state(
    optimizer: Optimizer,
    grown: Optimizer,
    old: PreTrainedModel,
    new: PreTrainedModel,
    plan: Plan,
    names: Mapping[int, str],
    kind: Kind,
    moments: Moments,
) -> None:
    groups = optimizer.param_groups
    if kind.start is not None:  # read by torch when the optimizer is made, whatever a group says
        groups = [{**group, kind.start: optimizer.defaults[kind.start]} for group in groups]
    held = {names[id(parameter)]: state for parameter, state in optimizer.state.items() if id(parameter) in names}
    for name, state in held.items():
        target = grown.state[new.get_parameter(name)]
        for key, value in state.items():
            if key not in kind.state:  # a counter
                target[key] = value.detach().clone() if isinstance(value, Tensor) else value
            elif value is None:
                target[key] = None
    for key, degree in kind.state.items():
        values = {name: state[key].detach() for name, state in held.items() if isinstance(state.get(key), Tensor)}
        starts = start_values(groups, names, kind, values)
        for name, value in grown_values(values, old, new, plan, degree, moments, key in kind.reduced, starts).items():
            grown.state[new.get_parameter(name)][key] = value


def start_values(
    groups: Iterable[Mapping[str, Any]], names: Mapping[int, str], kind: Kind, values: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """What the states of an optimizer started from, by the names of their parameters, where that
    was not 0."""
    if kind.start is None:
        return {}
    starts = {
        names[key if isinstance(key, int) else id(key)]: group[kind.start]
        for group in groups
        for key in group["params"]
    }
    return {name: torch.full_like(value, starts[name]) for name, value in values.items() if starts[name]}


def grown_values(
    values: Mapping[str, Tensor],
    old: PreTrainedModel,
    new: PreTrainedModel,
    plan: Plan,
    degree: int,
    moments: Moments,
    reduced: bool,
    starts: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """States of one kind, by the names of their parameters in memory. What is fresh starts where
    the old ones did, at ``starts`` or 0."""

    def grow(given: Mapping[str, Tensor], moments: Moments) -> dict[str, Tensor]:
        plans = {
            name: state_plan(plan.tensors[name], value, degree, moments, reduced) for name, value in given.items()
        }
        return {name: grow_tensor(value, plans[name]) for name, value in given.items()}

    result, begun = grow(to_disk(old, values), moments), to_disk(old, starts)
    everywhere, kept = grow(begun, "preserve"), grow(begun, moments)
    for name, start in begun.items():
        fresh = torch.where(
            everywhere[name] == 0, start.flatten()[0], everywhere[name]
        )  # what is born begins as all did
        result[name] = torch.where(kept[name] == 0, fresh, result[name])
    return from_disk(new, result)


def state_plan(tensor: TensorPlan, value: Tensor, degree: int, moments: Moments, reduced: bool) -> TensorPlan:
    """The plan of a state: gradient coefficients to the power of its degree, at first copies alone
    if the others start fresh."""
    dimensions = []
    for d, size in zip(tensor.dimensions, value.shape, strict=True):
        if reduced and size == 1:
            factor = float(np.mean(d.gradient**degree))
            dimensions.append(Dimension(1, np.zeros(1, dtype=np.int64), np.full(1, factor), np.ones(1)))
            continue
        coefficients: Floats = np.sign(np.abs(d.gradient)) if degree == 0 else d.gradient**degree
        coefficients = coefficients * d.first_copies if moments == "fresh" else coefficients
        dimensions.append(Dimension(d.old, d.source, coefficients, np.ones(d.new), mean=d.mean))
    return replace(tensor, shape=tuple(value.shape), dimensions=tuple(dimensions), symmetry=UNBROKEN)


def tensor_plans(model: PreTrainedModel, plan: Plan) -> dict[str, TensorPlan]:
    """The plan of each parameter in memory: of the tensor on disk that it is, or of the first of
    those it is made of."""
    plans: dict[str, TensorPlan] = {}
    for name, parameter in model.named_parameters():
        on_disk = to_disk(model, {name: parameter.detach().to("meta")})
        plans[name] = plan.tensors[next(iter(on_disk))]
    return plans
