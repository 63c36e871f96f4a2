"""An optimizer for the grown model, whose settings let training go on as before.

Its state grows by the gradient coefficients (`growth.moments`). The grown weight is v times the old one, v the product of value
coefficients, and its gradient g times the old one; training goes on exactly as it would have if every step changes the weight by v times
the old change. With an update of degree p in the gradient (Adam: 0, SGD: 1) that takes

    lr' = lr * v / g**p        eps' = eps * g        decoupled weight decay' = wd * lr / lr'        coupled weight decay' = wd * g / v

per tensor, for which parameter groups are split. Adafactor's update has no scale of its own but that of the weights, with floors under the
root mean squares of both: of a vector's gradients at eps_1, of the rows of a matrix of them at the root of eps_1, of the weights at eps_2,

    eps_1' = eps_1 * g (a vector), eps_1 * g**2 (a matrix)        eps_2' = eps_2 * v

and nothing else. (The floor under single entries of a matrix, at eps_1 too, cannot move as it should; it lies far below that of the rows.)

Where v or g differ from coordinate to coordinate (uneven counts, queries fused with keys) one number cannot serve all, and their geometric
mean is taken. Nor can decay where a norm multiplies by 1 + w and grows by a factor: it pulls to 0. Copies that differ (`growth.symmetry`)
leave the old trajectory anyway.

Sources: Kingma & Ba 2014, arXiv 1412.6980; Loshchilov & Hutter 2017, arXiv 1711.05101; torch.optim for each update.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel

from growth.disk_names import to_disk
from growth.errors import IllegalGrowthError, UnsupportedModelError
from growth.moments import KINDS, Kind, Moments, alive, grow_state, tensor_plans
from growth.plan import Plan, TensorPlan
from growth.wrappers import check_bare

Hyper = Literal["preserve", "keep"]


@dataclass(frozen=True)
class Factors:
    """The coefficients of one parameter as a whole.

    Args:
        value: of its weights, v.
        gradient: of its gradients, g.
        even: whether they are the same for every coordinate that is alive.
        shifted: whether something is added to the weights as well, so that decay towards 0 is not what it was.
    """

    value: float
    gradient: float
    even: bool
    shifted: bool


@dataclass(frozen=True, repr=False)
class GrownOptimizer:
    """An optimizer of the grown model.

    Args:
        optimizer: of the class of the one given.
        groups: for each of its parameter groups, which of the old ones it came from and the factor on its learning rate.
        uneven: parameters whose settings are a mean, since their copies want different ones, or will soon want others (RAdam at first).
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
        moments: ``preserve`` grows them by the gradient coefficients, ``fresh`` does so for the first copy of each coordinate and starts
            the others where it once began, ``reset`` drops them. What starts at zero while the count of steps goes on is not corrected for
            its bias: Adam's first updates of it are up to ``(1 - beta_1) / sqrt(1 - beta_2)`` learning rates, 3.2 by default, which
            `growth.training.fresh_warmup` holds back.
        hyper: ``preserve`` sets learning rate, epsilon and weight decay per tensor such that training goes on as the old model's
            would, ``keep`` leaves the caller's.

    Raises:
        UnsupportedModelError: for an optimizer whose state nobody declared, or parameters that are not the model's.
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
    born = tuple(name for name in names.values() if not all(alive(d).all() for d in tensors[name].dimensions))
    return GrownOptimizer(grown, tuple(origins), uneven, born)


def made_like(optimizer: Optimizer, groups: list[dict[str, Any]]) -> Optimizer:
    """A new optimizer of the same class and defaults for other groups. UnsupportedModelError if it takes more than that."""
    accepted = inspect.signature(type(optimizer)).parameters
    defaults = {name: _times(value, 1.0) for name, value in optimizer.defaults.items() if name in accepted}
    try:
        return type(optimizer)(groups, **defaults)
    except TypeError as error:
        raise UnsupportedModelError(f"cannot make another {type(optimizer).__name__}: {error}. Leave it out and make a new one.") from error


def check_optimizer(optimizer: Optimizer, model: PreTrainedModel, moments: str, hyper: str) -> tuple[Kind | None, dict[int, str]]:
    """The kind of an optimizer, and the names of its parameters by their ids: all that can be refused before a model grows.

    Raises what `grow_optimizer` does.
    """
    for name, value, known in (("moments", moments, Moments), ("hyper", hyper, Hyper)):
        if value not in get_args(known):
            raise IllegalGrowthError(f"{name} must be one of {', '.join(get_args(known))}, not {value!r}.")
    if not isinstance(optimizer, Optimizer):
        raise UnsupportedModelError(
            f"{type(optimizer).__name__} is no torch.optim.Optimizer. Unwrap it, or leave it out and make a new one."
        )
    check_bare(optimizer, "optimizer", Optimizer)
    kind = KINDS.get(type(optimizer))
    if kind is None and (moments != "reset" or hyper != "keep"):
        raise UnsupportedModelError(
            f"nobody declared how the state of {type(optimizer).__module__}.{type(optimizer).__name__} follows the gradients. Use one of "
            f"torch.optim's {', '.join(known.__name__ for known in KINDS)}, or moments='reset' with hyper='keep'."
        )
    names = _names(optimizer, model)
    if kind is not None and moments != "reset":
        for state in optimizer.state.values():
            for key, value in state.items():
                if isinstance(value, Tensor) and value.layout is not torch.strided:
                    raise UnsupportedModelError(
                        f"the state '{key}' of {type(optimizer).__name__} is sparse. Use moments='reset', or dense gradients."
                    )
                if isinstance(value, Tensor) and value.ndim and key not in kind.state:
                    raise UnsupportedModelError(f"nobody declared the state '{key}' of {type(optimizer).__name__}. Use moments='reset'.")
    if kind is not None and kind.reduced and moments != "reset":
        _check_reduced(optimizer, model, names, moments)
    return kind, names


def _check_reduced(optimizer: Optimizer, model: PreTrainedModel, names: Mapping[int, str], moments: str) -> None:
    """Raise UnsupportedModelError for states that are means over rows and columns, where those of the grown weights do not follow."""
    kind = type(optimizer).__name__
    if moments == "fresh":
        raise UnsupportedModelError(
            f"{kind} holds means over rows and columns, which old and new coordinates share: none is fresh. Use moments='preserve'."
        )
    for name in names.values():
        parameter = model.get_parameter(name).detach().to("meta")
        shapes = [value.shape for value in to_disk(model, {name: parameter}).values()]
        if parameter.ndim > 1 and shapes != [parameter.shape]:
            raise UnsupportedModelError(
                f"'{name}' is {len(shapes)} tensors of shape {list(shapes[0])} on disk, and {kind} holds means over rows and columns "
                "of all. Use moments='reset'."
            )


def _names(optimizer: Optimizer, model: PreTrainedModel) -> dict[int, str]:
    """id of each parameter the optimizer holds -> its name in the model, the first of them where it is shared."""
    known: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        known.setdefault(id(parameter), name)
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if foreign := [tuple(parameter.shape) for parameter in held if id(parameter) not in known]:
        raise UnsupportedModelError(
            f"the optimizer holds {len(foreign)} parameters that are none of the model's, the first of shape {list(foreign[0])}. "
            "Make it from model.parameters() of the very model that grows."
        )
    return {id(parameter): known[id(parameter)] for parameter in held}


def factors_of(tensor: TensorPlan) -> Factors:
    value, gradient, even = 1.0, 1.0, True
    for d in tensor.dimensions:
        for coefficients, is_value in ((d.value, True), (d.gradient, False)):
            sizes = np.abs(coefficients[alive(d)])
            mean = float(np.exp(np.log(sizes).mean())) if len(sizes) else 1.0
            even &= bool(np.allclose(sizes, mean, rtol=1e-9))
            value, gradient = (value * mean, gradient) if is_value else (value, gradient * mean)
    return Factors(value, gradient, even, any(d.shift is not None for d in tensor.dimensions))


def _uneven(
    optimizer: Optimizer, names: Mapping[int, str], factors: Mapping[str, Factors], kind: Kind, moments: Moments
) -> tuple[str, ...]:
    """Parameters that no setting serves exactly."""
    found = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            factor, state = factors[names[id(parameter)]], {} if moments == "reset" else optimizer.state.get(parameter, {})
            decayed = factor.shifted and (kind.own_scale or group["weight_decay"])
            if not factor.even or decayed or (factor.gradient != 1.0 and kind.unsettled(group, state)):
                found.append(names[id(parameter)])
    return tuple(found)


@dataclass(frozen=True)
class _Settings:
    """Factors on the settings of one parameter: its learning rate, epsilon, weight decay, and the floor under the size of its weights."""

    rate: float = 1.0
    epsilon: float = 1.0
    decay: float = 1.0
    floor: float = 1.0
    dtype: torch.dtype | None = None

    @staticmethod
    def of(factors: Factors, kind: Kind, group: Mapping[str, Any], parameter: Tensor) -> _Settings:
        v, g = factors.value, factors.gradient
        if kind.own_scale:
            return _Settings(epsilon=_digits(g ** min(max(parameter.ndim, 1), 2)), floor=_digits(v), dtype=parameter.dtype)
        rate = v / g**kind.degree
        return _Settings(_digits(rate), _digits(g), _digits(1.0 / rate if kind.decoupled(group) else g / v))

    def scaled(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a group that change."""
        changed = {name: _times(group[name], self.rate) for name in RATES if name in group}
        changed |= {"weight_decay": _times(group["weight_decay"], self.decay)} if "weight_decay" in group else {}
        match group.get("eps"):
            case (epsilon, floor):
                if epsilon is None and self.epsilon != 1.0 and self.dtype is not None:
                    epsilon = torch.finfo(self.dtype).eps
                changed["eps"] = (_times(epsilon, self.epsilon), _times(floor, self.floor))
            case Real() as epsilon:
                changed["eps"] = _times(epsilon, self.epsilon)
        return changed


def _groups(
    optimizer: Optimizer, new: PreTrainedModel, names: Mapping[int, str], factors: Mapping[str, Factors], kind: Kind | None
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
            target = split.setdefault(settings, {**own, "params": [], **({"param_names": []} if "param_names" in group else {})})
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
"""Key of a group: which group of the first optimizer it came from, the factor on its learning rate, the shapes of its parameters."""

RATES = ("lr", "initial_lr", "max_lr", "min_lr", "swa_lr")
"""Settings of a group that are learning rates: its own, and those that schedulers leave there."""


def _digits(factor: float) -> float:
    """Rounded, so that factors that ought to be the same are."""
    return float(f"{factor:.13g}")


def _times(value: Any, factor: float) -> Any:
    """A number or tensor times a factor; a tensor of its own, since optimizers and schedulers write to it."""
    if isinstance(value, Tensor):
        return value * factor
    return value if factor == 1.0 or value is None else value * factor
