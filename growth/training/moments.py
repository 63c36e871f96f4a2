"""The state of an optimizer, grown by the same plan as the weights.

The gradient of a grown weight is the old one times g, the product of the gradient coefficients of
its dimensions (`growth.algebra.roles`). So a state of degree p in the gradient
(`growth.training.optimizer_kinds`) grows by ``g**p``: Adam's ``exp_avg`` by g, ``exp_avg_sq`` by
``g**2``. Where the small model does not determine the gradient, the state starts as an optimizer's
first state does, usually at 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel

from growth.algebra.dimensions import Dimension
from growth.algebra.maps import Floats
from growth.hf.dtensors import hollow, is_spread, spread_like
from growth.hf.inner_names import parameters_of
from growth.hf.tensor_names import from_disk, to_disk
from growth.plan.plan import Plan
from growth.plan.symmetry import UNBROKEN
from growth.plan.tensor_plan import TensorPlan
from growth.training.optimizer_kinds import Kind
from growth.training.parameter_sources import parameter_sources
from growth.weights.grow import grow_tensor

Moments = Literal["preserve", "fresh", "reset"]

Gather = Callable[[Tensor, str], Tensor]
"""(A tensor that may be spread over ranks, what it is) -> all of it."""


def grow_state(
    optimizer: Optimizer,
    grown: Optimizer,
    old: PreTrainedModel,
    new: PreTrainedModel,
    plan: Plan,
    names: Mapping[int, str],
    kind: Kind,
    moments: Moments,
    read: Gather,
) -> None:
    """Fill the state of ``grown`` from that of ``optimizer``: counters are copied, the rest grows.

    Args:
        optimizer, grown: the optimizers of ``old`` and ``new``.
        old, new: the model before and after growth.
        plan: how it grew.
        names: id of each parameter of ``optimizer`` -> its name.
        kind: of both.
        moments: ``preserve`` or ``fresh``, see `growth.training.optimizer.grow_optimizer`.
        read: (state, its name) -> all of it.
    """
    groups = optimizer.param_groups
    if kind.start is not None:  # torch reads it from the defaults when an optimizer is made, not from the groups
        groups = [{**group, kind.start: optimizer.defaults[kind.start]} for group in groups]
    held = {names[id(parameter)]: state for parameter, state in optimizer.state.items() if id(parameter) in names}
    for name, source in parameter_sources(old, new, plan).items():
        if plan.extension is not None and plan.extension.adds(name):
            continue  # its state starts with its first step
        target = grown.state[new.get_parameter(name)] if source in held else {}
        for key, value in held.get(source, {}).items():
            if key not in kind.state:  # a counter
                target[key] = value.detach().clone() if isinstance(value, Tensor) else value
            elif value is None:
                target[key] = None
    for key, degree in kind.state.items():
        held_values = {name: state[key].detach() for name, state in held.items() if isinstance(state.get(key), Tensor)}
        for some in taken(held_values):
            values = {name: read(value, f"{key} of {name}") for name, value in some.items()}
            starts = first_values(groups, names, kind, values)
            reduced = key in kind.reduced
            for name, value in grown_values(values, old, new, plan, degree, moments, reduced, starts).items():
                parameter = new.get_parameter(name)
                grown.state[parameter][key] = spread_like(value, parameter)


def taken(values: Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
    """The tensors to be taken whole together: all, but those that are spread over ranks one at a time."""
    yield {name: value for name, value in values.items() if not is_spread(value)}
    yield from ({name: values[name]} for name in sorted(values) if is_spread(values[name]))


def first_values(
    groups: Iterable[Mapping[str, Any]], names: Mapping[int, str], kind: Kind, values: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """What the states of an optimizer held before its first step, where that was not 0.

    Args:
        groups: its parameter groups, with parameters or the numbers of parameters.
        names: id or number of a parameter -> its name.
        kind: of the optimizer.
        values: parameter name -> its state now.

    Returns:
        Parameter name -> a tensor like its state, of one value throughout (Adagrad's
        ``initial_accumulator_value``). Empty for optimizers whose states start at 0.
    """
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
    """One kind of state (all ``exp_avg``, say), grown.

    Args:
        values: parameter name in memory -> its state.
        old, new: the model before and after growth; they say how names in memory and on disk
            relate.
        plan: how it grew, by names on disk.
        degree: of the state in the gradient.
        moments: ``preserve`` grows all copies, ``fresh`` the first copy of each coordinate.
        reduced: whether the state is a mean over rows or columns.
        starts: what the states held before the first step (`first_values`); fresh and undetermined
            entries start from there, or from 0 where it has no entry.

    Returns:
        Parameter name in memory -> its grown state.
    """

    def extended(given: Mapping[str, Tensor], degree: int, moments: Moments) -> Mapping[str, Tensor]:
        on_disk = to_disk(old, given)
        return on_disk if plan.extension is None else plan.extension.state(on_disk, degree, moments == "fresh")

    def grow(given: Mapping[str, Tensor], moments: Moments) -> dict[str, Tensor]:
        return {
            name: grow_tensor(value, state_plan(plan.tensors[name], value, degree, moments, reduced))
            for name, value in given.items()
        }

    result, begun = grow(extended(values, degree, moments), moments), extended(starts, 0, "preserve")
    # Grown like a state, the start value is 0 in exactly the entries that carry no old state.
    every_copy, carried = grow(begun, "preserve"), grow(extended(starts, 0, moments), moments)
    for name, start in begun.items():
        fresh = torch.where(every_copy[name] == 0, start.flatten()[0], every_copy[name])
        result[name] = torch.where(carried[name] == 0, fresh, result[name])
    return from_disk(new, result)


def state_plan(tensor: TensorPlan, value: Tensor, degree: int, moments: Moments, reduced: bool) -> TensorPlan:
    """The plan by which the state of a parameter grows.

    Args:
        tensor: the plan of the parameter.
        value: the state, of the parameter's shape, or with a size of 1 if ``reduced``.
        degree: of the state in the gradient. Coefficients are the gradient's to this power; at
            degree 0 they are 1, and 0 where the gradient is not determined.
        moments: with ``fresh``, coefficients are 0 on all but the first copy of each coordinate.
        reduced: whether a dimension of size 1 stands for the mean over the parameter's dimension;
            it takes the mean of the coefficients.

    Example:
        An output dimension that is doubled has its gradient halved in both copies: ``exp_avg``, of
        degree 1, is copied with 1/2, and ``exp_avg_sq``, of degree 2, with 1/4.
    """
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
    """Parameter name in memory -> its plan.

    A parameter that is several tensors on disk (the experts of a layer, fused in memory) has the
    plan of the first of them; they all grow alike.
    """
    plans: dict[str, TensorPlan] = {}
    for name, parameter in parameters_of(model).items():
        on_disk = to_disk(model, {name: hollow(parameter)})
        plans[name] = plan.tensors[next(iter(on_disk))]
    return plans
