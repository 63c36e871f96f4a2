"""The optimizer of a grown model: its state, and settings that let training continue as before.

The state grows by the gradient coefficients (`growth.training.moments`). Learning rate, epsilon and
weight decay change per tensor (`growth.training.factors` has the formulas), so parameter groups are
split by the factors their parameters take. With them, training continues exactly as the small
model's would, except for the parameters listed in ``uneven`` and ``born``; and except where noise
or a split makes the copies differ (`growth.plan.symmetry`), since they then train apart on purpose.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel

from growth.errors import UnsupportedModelError
from growth.hf.custom_modules import MODULE
from growth.plan.plan import Plan
from growth.plan.tensor_plan import TensorPlan
from growth.training.factors import Factors, SettingFactors, factors_of, rounded, times
from growth.training.moments import Gather, Moments, grow_state, tensor_plans
from growth.training.optimizer_checks import Hyper, check_optimizer
from growth.training.optimizer_kinds import Kind
from growth.training.parameter_sources import parameter_sources

ORIGIN = "grown_from"
"""Key of a parameter group that growth split off, saved with the optimizer's ``state_dict()``. Its
value is what `growth.training.resume.resume` needs to split a fresh optimizer in the same way:
``{"group": index of the group of the first optimizer, made for the small model; "factor": on that
group's learning rate, over all growths; "shapes": {parameter name: shape}}``."""


@dataclass(frozen=True, repr=False)
class GrownOptimizer:
    """An optimizer of the grown model.

    Args:
        optimizer: of the class of the one given.
        groups: for each of its parameter groups, the index of the old group it was split from, and
            the factor on its learning rate.
        uneven: parameters whose copies need different settings, or (RAdam at first) soon will. They
            have the geometric mean, so training departs from the small model's course there.
        born: parameters with new coordinates that start at zero, or whose gradient the small model
            does not determine (their optimizer state starts at zero).
    """

    optimizer: Optimizer
    groups: tuple[tuple[int, float], ...]
    uneven: tuple[str, ...]
    born: tuple[str, ...]


def grow_optimizer(
    optimizer: Optimizer,
    old: PreTrainedModel,
    new: PreTrainedModel,
    plan: Plan,
    *,
    moments: Moments = "preserve",
    hyper: Hyper = "preserve",
    read: Gather = lambda value, name: value,
) -> GrownOptimizer:
    """An optimizer of the same class for the grown model. The one given is not touched.

    Args:
        optimizer: of ``old``. Parameters that it does not hold are in no group of the result
            either.
        old, new: the model before and after growth.
        plan: how it grew.
        moments: what becomes of the optimizer's state. ``preserve`` grows it by the gradient
            coefficients. ``fresh`` does so for the first copy of each coordinate and starts the
            other copies as a new optimizer does. ``reset`` drops it. Entries that start at zero
            while the step count goes on get no bias correction: Adam's first updates there are up
                to
            ``(1 - beta_1) / sqrt(1 - beta_2)`` learning rates, 3.2 at the default betas, which
            `growth.training.warmup.fresh_warmup` ramps up.
        hyper: ``preserve`` sets learning rate, epsilon and weight decay per tensor so that training
            continues as the small model's would; ``keep`` leaves them, and the groups, as they are.
        read: how a state is read whole, where ranks hold parts of it.

    Returns:
        The new optimizer, where its groups came from, and the parameters that do not continue
        exactly.

    Raises:
        UnsupportedModelError: an optimizer whose state has no growth rule, one that cannot be made
            from its groups and defaults, or one that holds parameters of another model.
        IllegalGrowthError: ``moments`` or ``hyper`` has an unknown value.

    Example:
        Doubling repeats the inputs of ``down_proj``, which then reads with 1/2: its weights are
        half as large, and so must Adam's steps be. The embedding is only repeated.

        >>> optimizer = AdamW(model.parameters(), lr=1e-3)
        >>> grown = growth.widen(model, width=2, optimizer=optimizer)     # calls grow_optimizer
        >>> {group["lr"] for group in grown.optimizer.param_groups}
        {0.001, 0.0005}
    """
    kind, names = check_optimizer(optimizer, old, moments, hyper)
    tensors = tensor_plans(new, plan)
    grown_from = _grown_from(parameter_sources(old, new, plan), names)
    factors = {
        name: factors_of(tensors[name], plan.part(tensors[name].name))
        for grown_names in grown_from.values()
        for name in grown_names
    }
    held = [[name for one in group["params"] for name in grown_from[id(one)]] for group in optimizer.param_groups]
    groups, sources = split_groups(optimizer.param_groups, held, new, factors, kind if hyper == "preserve" else None)
    for group in groups:
        group["params"] = [new.get_parameter(name) for name in group["params"]]
    grown = made_like(optimizer, groups)
    if kind is not None and moments != "reset":
        grow_state(optimizer, grown, old, new, plan, names, kind, moments, read)
    elif kind is not None and kind.start is not None and hyper == "preserve":
        _scale_first_state(grown, new, factors, kind)
    uneven: tuple[str, ...] = ()
    if hyper == "preserve" and kind is not None:
        kept = {} if moments == "reset" else optimizer.state
        parameters = [one for group in optimizer.param_groups for one in group["params"]]
        states = {name: kept.get(one, {}) for one in parameters for name in grown_from[id(one)]}
        uneven = uneven_of(optimizer.param_groups, held, states, factors, kind)
    return GrownOptimizer(grown, sources, uneven, born_of({name: tensors[name] for name in factors}, plan))


def made_like(optimizer: Optimizer, groups: list[dict[str, Any]]) -> Optimizer:
    """A new optimizer of the same class and defaults for other parameter groups.

    Raises:
        UnsupportedModelError: the class takes further arguments.
    """
    accepted = inspect.signature(type(optimizer)).parameters
    defaults = {name: times(value, 1.0) for name, value in optimizer.defaults.items() if name in accepted}
    try:
        return type(optimizer)(groups, **defaults)
    except TypeError as error:
        raise UnsupportedModelError(
            f"cannot make another {type(optimizer).__name__}: {error}. Leave it out and make a new one."
        ) from error


def _grown_from(sources: Mapping[str, str], names: Mapping[int, str]) -> dict[int, list[str]]:
    """id of each parameter of the old optimizer -> the names of all that grew from it."""
    grown: dict[str, list[str]] = {}
    for name, source in sources.items():
        grown.setdefault(source, []).append(name)
    return {key: grown[name] for key, name in names.items()}


def _scale_first_state(grown: Optimizer, new: PreTrainedModel, factors: Mapping[str, Factors], kind: Kind) -> None:
    """Scale the state that an optimizer has when it is made (Adagrad's), as gradients scale."""
    for name, factor in factors.items():
        for key, degree in kind.state.items():
            grown.state[new.get_parameter(name)][key] *= factor.gradient**degree


def uneven_of(
    groups: Sequence[Mapping[str, Any]],
    held: Sequence[Sequence[str]],
    states: Mapping[str, Mapping[str, Any]],
    factors: Mapping[str, Factors],
    kind: Kind,
) -> tuple[str, ...]:
    """Parameters for which no settings continue training exactly.

    Args:
        groups: of the old optimizer, or of its ``state_dict()``.
        held: for each of them, the names of the parameters that grew from its own.
        states: name of such a parameter -> the state of the one that it grew from, if that is kept.
        factors: of each of them.
        kind: of the optimizer.
    """
    found = []
    for group, names in zip(groups, held, strict=True):
        for name in names:
            factor = factors[name]
            decayed = factor.shifted and (kind.own_scale or group["weight_decay"])
            if not factor.even or decayed or (factor.gradient != 1.0 and kind.unsettled(group, states.get(name, {}))):
                found.append(name)
    return tuple(found)


def born_of(tensors: Mapping[str, TensorPlan], plan: Plan) -> tuple[str, ...]:
    """Parameters with new coordinates that start at zero, or whose gradient the small model does not determine.

    Args:
        tensors: name of a parameter -> how it grew.
        plan: how the model did.
    """
    return tuple(
        name
        for name, tensor in tensors.items()
        if (plan.extension is not None and plan.extension.adds(name))
        or not all(dimension.active.all() for dimension in tensor.dimensions)
    )


def split_groups(
    groups: Sequence[Mapping[str, Any]],
    held: Sequence[Sequence[str]],
    new: PreTrainedModel,
    factors: Mapping[str, Factors],
    kind: Kind | None,
) -> tuple[list[dict[str, Any]], tuple[tuple[int, float], ...]]:
    """The parameter groups of a grown optimizer, with the *names* of their parameters under ``params``,
    and for each the index of the old group and the factor on its learning rate (`GrownOptimizer.groups`).

    Args:
        groups: of the old optimizer, or of its ``state_dict()``.
        held: for each of them, the names of the parameters that grew from its own.
        new: the model after growth, on any device.
        factors: of each of its parameters.
        kind: of the optimizer; None for settings that stay.
    """
    grown: list[dict[str, Any]] = []
    sources: list[tuple[int, float]] = []
    recorded = kind is not None or any(ORIGIN in group for group in groups)
    for index, (group, names, origin) in enumerate(zip(groups, held, _origins(groups), strict=True)):
        for settings, part_names in _split(group, names, new, factors, kind).items():
            part = _part(group, part_names)
            part["params"] = part_names
            part |= settings.scaled(part)
            if recorded:
                shapes = {name: list(new.get_parameter(name).shape) for name in part_names}
                part[ORIGIN] = {**origin, "factor": rounded(origin["factor"] * settings.rate), "shapes": shapes}
            grown.append(part)
            sources.append((index, settings.rate))
    return grown, tuple(sources)


def _origins(groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each group, the group of the first optimizer it was split from and the factor so far.

    Groups that growth has not split yet count as groups of the first optimizer themselves. Those
    that were added between two growths are numbered after the ones it was made with.
    """
    split = [group[ORIGIN]["group"] for group in groups if ORIGIN in group]
    unused = count(1 + max(split, default=-1))
    return [group[ORIGIN] if ORIGIN in group else {"group": next(unused), "factor": 1.0} for group in groups]


def _split(
    group: Mapping[str, Any],
    names: Sequence[str],
    new: PreTrainedModel,
    factors: Mapping[str, Factors],
    kind: Kind | None,
) -> dict[SettingFactors, list[str]]:
    """Factors on the settings -> names of the parameters that take them, of those that a group holds."""
    parts: dict[SettingFactors, list[str]] = {}
    for name in names:
        parameter = new.get_parameter(name)
        settings = SettingFactors() if kind is None else SettingFactors.of(factors[name], kind, group, parameter)
        parts.setdefault(settings, []).append(name)
    return parts or {SettingFactors(): []}  # an empty group stays


def _part(group: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The settings of a group, for some of its parameters."""
    part = {key: value.clone() if isinstance(value, Tensor) else value for key, value in group.items()}
    if "param_names" in group:  # where torch was given names
        part["param_names"] = [name.removeprefix(f"{MODULE}.") for name in names]
    return part
