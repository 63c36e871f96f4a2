"""Everything about an optimizer that can be refused before its model grows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel

from growth.errors import IllegalGrowthError, UnsupportedModelError
from growth.hf.dtensors import hollow, is_spread
from growth.hf.inner_names import parameters_of
from growth.hf.tensor_names import to_disk
from growth.training.moments import Moments
from growth.training.optimizer_kinds import KINDS, Kind
from growth.training.wrappers import check_bare

Hyper = Literal["preserve", "keep"]


def check_optimizer(
    optimizer: Optimizer, model: PreTrainedModel, moments: str, hyper: str
) -> tuple[Kind | None, dict[int, str]]:
    """Refuse an optimizer that cannot grow with ``model`` as the caller asks.

    Args:
        optimizer: of the model's parameters, or some of them.
        model: the model before growth.
        moments, hyper: see `growth.training.optimizer.grow_optimizer`.

    Returns:
        How the optimizer scales (None for a class without a growth rule, which is accepted with
        ``moments="reset"`` and ``hyper="keep"``), and the id of each of its parameters -> its name.

    Raises:
        IllegalGrowthError: ``moments`` or ``hyper`` has an unknown value.
        UnsupportedModelError: no torch optimizer, a class or a state without a growth rule, sparse
            states, parameters of another model.
    """
    for name, value, known in (("moments", moments, Moments), ("hyper", hyper, Hyper)):
        if value not in get_args(known):
            raise IllegalGrowthError(f"{name} must be one of {', '.join(get_args(known))}, not {value!r}.")
    if not isinstance(optimizer, Optimizer):
        raise UnsupportedModelError(
            f"{type(optimizer).__name__} is not a torch.optim.Optimizer. Unwrap it, or leave it out and make a new "
            "one."
        )
    check_bare(optimizer, "optimizer", Optimizer)
    kind = KINDS.get(type(optimizer))
    if kind is None and (moments != "reset" or hyper != "keep"):
        raise UnsupportedModelError(
            f"{type(optimizer).__module__}.{type(optimizer).__name__} is not supported: its optimizer state has no "
            f"growth rule. Use one of torch.optim's {', '.join(known.__name__ for known in KINDS)}, or "
            "moments='reset' with hyper='keep'."
        )
    names = _names(optimizer, model)
    if kind is not None and moments != "reset":
        _check_states(optimizer, kind)
        if kind.reduced:
            _check_reduced(optimizer, model, names, moments)
    return kind, names


def settings_of(optimizer: object, scheduler: object) -> str:
    """An optimizer, the settings of its groups and its scheduler in a line, without the values of tensors: what
    must be the same on every rank."""
    groups = [
        {
            key: len(value) if key == "params" else type(value).__name__ if isinstance(value, Tensor) else value
            for key, value in group.items()
        }
        for group in getattr(optimizer, "param_groups", ())
    ]
    return f"optimizer {type(optimizer).__name__} {groups}, scheduler {type(scheduler).__name__}"


def not_kept(optimizer: Optimizer) -> list[str]:
    """What was put into an optimizer by hand, and one made anew does not have: hooks, and methods that
    are not its class's."""
    own, found = vars(optimizer), []
    for key, table in own.items():
        if key.endswith("_hooks") and isinstance(table, Mapping):
            said = key.removeprefix("_optimizer_").removesuffix("s").replace("_", " ")
            found += [f"a {said} ({_called(hook)})" for hook in table.values()]
    for name in sorted(own):
        given, held = getattr(type(optimizer), name, None), own[name]
        if getattr(held, "_wrapped_by_lr_sched", False):  # counts the steps for a scheduler; the new one does so too
            held = held.__wrapped__
        if callable(given) and callable(held) and held is not given:
            found.append(f"a {name} of its own ({_called(held)})")
    return found


def _called(function: object) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))


def _check_states(optimizer: Optimizer, kind: Kind) -> None:
    """Raise UnsupportedModelError for states that are sparse, or that have no growth rule."""
    whose = type(optimizer).__name__
    for state in optimizer.state.values():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.layout is not torch.strided:
                raise UnsupportedModelError(
                    f"the state '{key}' of {whose} is sparse. Use moments='reset', or dense gradients."
                )
            if isinstance(value, Tensor) and value.ndim and key not in kind.state:
                raise UnsupportedModelError(f"the state '{key}' of {whose} has no growth rule. Use moments='reset'.")


def _check_reduced(optimizer: Optimizer, model: PreTrainedModel, names: Mapping[int, str], moments: str) -> None:
    """Raise UnsupportedModelError where states that are means over rows or columns cannot grow.

    A mean mixes old and new coordinates, so the new ones cannot start fresh; and the mean of a
    parameter that is several tensors on disk is not the means of those tensors.
    """
    kind = type(optimizer).__name__
    if moments == "fresh":
        raise UnsupportedModelError(
            f"{kind} stores means over rows and columns, which mix old and new coordinates, so none can start fresh. "
            "Use moments='preserve'."
        )
    for name in names.values():
        if is_spread(model.get_parameter(name)):
            raise UnsupportedModelError(
                f"{kind} stores means over rows and columns, which cannot grow while '{name}' is sharded. Use "
                "moments='reset', or save a full checkpoint and grow that."
            )
        parameter = hollow(model.get_parameter(name))
        shapes = [value.shape for value in to_disk(model, {name: parameter}).values()]
        if parameter.ndim > 1 and shapes != [parameter.shape]:
            raise UnsupportedModelError(
                f"'{name}' is {len(shapes)} tensors of shape {list(shapes[0])} on disk, and {kind} stores means over "
                "rows and columns of all of them together. Use moments='reset'."
            )


def _names(optimizer: Optimizer, model: PreTrainedModel) -> dict[int, str]:
    """id of each parameter of the optimizer -> its name in the model; the first name of a tied
    one."""
    known: dict[int, str] = {}
    for name, parameter in parameters_of(model, remove_duplicate=False).items():
        known.setdefault(id(parameter), name)
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if foreign := [tuple(parameter.shape) for parameter in held if id(parameter) not in known]:
        raise UnsupportedModelError(
            f"{len(foreign)} parameters of the optimizer are not the model's, the first of shape {list(foreign[0])}. "
            "Make the optimizer from model.parameters() of the model that grows."
        )
    return {id(parameter): known[id(parameter)] for parameter in held}
