"""An optimizer for the grown model, whose settings let training go on as before.

Its state grows by the gradient coefficients (`growth.training.moments`). The grown weight is v
times the old one, v the product of value coefficients, and its gradient g times the old one;
training goes on exactly as it would have if every step changes the weight by v times the old
change. With an update of degree p in the gradient (Adam: 0, SGD: 1) that takes

    lr' = lr * v / g**p
    eps' = eps * g
    decoupled weight decay' = wd * lr / lr'
    coupled weight decay' = wd * g / v

per tensor, for which parameter groups are split. Adafactor's update has no scale of its own but
that of the weights, with floors under the root mean squares of both: of a vector's gradients at
eps_1, of the rows of a matrix of them at the root of eps_1, of the weights at eps_2,

    eps_1' = eps_1 * g (a vector), eps_1 * g**2 (a matrix)        eps_2' = eps_2 * v

and nothing else. (The floor under single entries of a matrix, at eps_1 too, cannot move as it
should; it lies far below that of the rows.)

Where v or g differ from coordinate to coordinate (uneven counts, queries fused with keys) one
number cannot serve all, and their geometric mean is taken. Nor can decay where a norm multiplies by
1 + w and grows by a factor: it pulls to 0. Copies that differ (`growth.plan.symmetry`) leave the
old trajectory anyway.

Sources: Kingma & Ba 2014, arXiv 1412.6980; Loshchilov & Hutter 2017, arXiv 1711.05101; torch.optim
for each update."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel

from growth.errors import UnsupportedModelError
from growth.plan.plan import Plan
from growth.training.factors import Factors, _digits, _Settings, _times, factors_of
from growth.training.moments import Moments, grow_state, tensor_plans
from growth.training.optimizer_checks import Hyper, check_optimizer
from growth.training.optimizer_kinds import Kind


@dataclass(frozen=True, repr=False)
class GrownOptimizer:
    """An optimizer of the grown model.

    Args:
        optimizer: of the class of the one given.
        groups: for each of its parameter groups, which of the old ones it came from and the factor
            on its learning rate.
        uneven: parameters whose settings are a mean, since their copies want different ones, or
            will soon want others (RAdam at first).
        born: parameters with coordinates of which no old gradient says what they receive.
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
) -> GrownOptimizer:
    """An optimizer of the same class for the grown model. The one given is not touched.

    Args:
        optimizer: of ``old``; parameters it does not hold stay without one.
        old, new: the model and what it grew to.
        plan: how.
        moments: ``preserve`` grows them by the gradient coefficients, ``fresh`` does so for the
            first copy of each coordinate and starts the others where it once began, ``reset`` drops
            them. What starts at zero while the count of steps goes on is not corrected for its
            bias: Adam's first updates of it are up to ``(1 - beta_1) / sqrt(1 - beta_2)`` learning
            rates, 3.2 by default, which `growth.training.warmup.fresh_warmup` holds back.
        hyper: ``preserve`` sets learning rate, epsilon and weight decay per tensor such that
            training goes on as the old model's would, ``keep`` leaves the caller's.

    Raises:
        UnsupportedModelError: for an optimizer whose state nobody declared, or parameters that are
            not the model's.
        IllegalGrowthError: for a choice that does not exist.
    """
    kind, names = check_optimizer(optimizer, old, moments, hyper)
    tensors = tensor_plans(old, plan)
    factors = {name: factors_of(tensors[name]) for name in names.values()}
    groups, origins = _groups(optimizer, new, names, factors, kind if hyper == "preserve" else None)
    grown = made_like(optimizer, groups)
    if kind is not None and moments != "reset":
        grow_state(optimizer, grown, old, new, plan, names, kind, moments)
    elif kind is not None and kind.start is not None and hyper == "preserve":
        for name, factor in factors.items():
            for key, degree in kind.state.items():
                grown.state[new.get_parameter(name)][key] *= factor.gradient**degree
    uneven = _uneven(optimizer, names, factors, kind, moments) if hyper == "preserve" and kind is not None else ()
    born = tuple(name for name in names.values() if not all(d.active.all() for d in tensors[name].dimensions))
    return GrownOptimizer(grown, tuple(origins), uneven, born)


def made_like(optimizer: Optimizer, groups: list[dict[str, Any]]) -> Optimizer:
    """A new optimizer of the same class and defaults for other groups. UnsupportedModelError if it
    takes more than that."""
    accepted = inspect.signature(type(optimizer)).parameters
    defaults = {name: _times(value, 1.0) for name, value in optimizer.defaults.items() if name in accepted}
    try:
        return type(optimizer)(groups, **defaults)
    except TypeError as error:
        raise UnsupportedModelError(
            f"cannot make another {type(optimizer).__name__}: {error}. Leave it out and make a new one."
        ) from error


def _uneven(
    optimizer: Optimizer, names: Mapping[int, str], factors: Mapping[str, Factors], kind: Kind, moments: Moments
) -> tuple[str, ...]:
    """Parameters that no setting serves exactly."""
    found = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            factor, state = (
                factors[names[id(parameter)]],
                {} if moments == "reset" else optimizer.state.get(parameter, {}),
            )
            decayed = factor.shifted and (kind.own_scale or group["weight_decay"])
            if not factor.even or decayed or (factor.gradient != 1.0 and kind.unsettled(group, state)):
                found.append(names[id(parameter)])
    return tuple(found)


def _groups(
    optimizer: Optimizer,
    new: PreTrainedModel,
    names: Mapping[int, str],
    factors: Mapping[str, Factors],
    kind: Kind | None,
) -> tuple[list[dict[str, Any]], list[tuple[int, float]]]:
    """The new parameter groups, split where settings differ, and where each came from."""
    groups: list[dict[str, Any]] = []
    origins: list[tuple[int, float]] = []
    later = count(1 + max((group[ORIGIN]["group"] for group in optimizer.param_groups if ORIGIN in group), default=-1))
    held = {id(parameter): name for name, parameter in new.named_parameters()}
    for index, group in enumerate(optimizer.param_groups):
        own = {key: value.clone() if isinstance(value, Tensor) else value for key, value in group.items()}
        whence = group[ORIGIN] if ORIGIN in group else {"group": next(later), "factor": 1.0}
        split: dict[_Settings, dict[str, Any]] = {}
        for position, parameter in enumerate(group["params"]):
            name = names[id(parameter)]
            settings = _Settings() if kind is None else _Settings.of(factors[name], kind, group, parameter)
            target = split.setdefault(
                settings, {**own, "params": [], **({"param_names": []} if "param_names" in group else {})}
            )
            target["params"].append(new.get_parameter(name))
            if "param_names" in group:
                target["param_names"].append(group["param_names"][position].removeprefix("_orig_mod."))
        for settings, target in (split or {_Settings(): own}).items():
            groups.append({**target, **settings.scaled(target)})
            origins.append((index, settings.rate))
            if kind is not None:
                factor = _digits(whence["factor"] * settings.rate)
                shapes = {held[id(parameter)]: list(parameter.shape) for parameter in target["params"]}
                groups[-1][ORIGIN] = {**whence, "factor": factor, "shapes": shapes}
    return groups, origins


ORIGIN = "grown_from"
"""Key of a group: which group of the first optimizer it came from, the factor on its learning rate,
the shapes of its parameters."""
