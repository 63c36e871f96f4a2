"""All that can be refused about an optimizer before its model grows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel

from growth.errors import IllegalGrowthError, UnsupportedModelError
from growth.hf.tensor_names import to_disk
from growth.training.moments import Moments
from growth.training.optimizer_kinds import KINDS, Kind
from growth.training.wrappers import check_bare

Hyper = Literal["preserve", "keep"]


def check_optimizer(
    optimizer: Optimizer, model: PreTrainedModel, moments: str, hyper: str
) -> tuple[Kind | None, dict[int, str]]:
    """The kind of an optimizer, and the names of its parameters by their ids: all that can be
    refused before a model grows.

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
            f"nobody declared how the state of {type(optimizer).__module__}.{type(optimizer).__name__} follows the "
            "gradients. Use one of "
            f"torch.optim's {', '.join(known.__name__ for known in KINDS)}, or moments='reset' with hyper='keep'."
        )
    names = _names(optimizer, model)
    if kind is not None and moments != "reset":
        for state in optimizer.state.values():
            for key, value in state.items():
                if isinstance(value, Tensor) and value.layout is not torch.strided:
                    raise UnsupportedModelError(
                        f"the state '{key}' of {type(optimizer).__name__} is sparse. Use moments='reset', or dense "
                        "gradients."
                    )
                if isinstance(value, Tensor) and value.ndim and key not in kind.state:
                    raise UnsupportedModelError(
                        f"nobody declared the state '{key}' of {type(optimizer).__name__}. Use moments='reset'."
                    )
    if kind is not None and kind.reduced and moments != "reset":
        _check_reduced(optimizer, model, names, moments)
    return kind, names


def _check_reduced(optimizer: Optimizer, model: PreTrainedModel, names: Mapping[int, str], moments: str) -> None:
    """Raise UnsupportedModelError for states that are means over rows and columns, where those of
    the grown weights do not follow."""
    kind = type(optimizer).__name__
    if moments == "fresh":
        raise UnsupportedModelError(
            f"{kind} holds means over rows and columns, which old and new coordinates share: none is fresh. Use "
            "moments='preserve'."
        )
    for name in names.values():
        parameter = model.get_parameter(name).detach().to("meta")
        shapes = [value.shape for value in to_disk(model, {name: parameter}).values()]
        if parameter.ndim > 1 and shapes != [parameter.shape]:
            raise UnsupportedModelError(
                f"'{name}' is {len(shapes)} tensors of shape {list(shapes[0])} on disk, and {kind} holds means over "
                "rows and columns "
                "of all. Use moments='reset'."
            )


def _names(optimizer: Optimizer, model: PreTrainedModel) -> dict[int, str]:
    """id of each parameter the optimizer holds -> its name in the model, the first of them where it
    is shared."""
    known: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        known.setdefault(id(parameter), name)
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if foreign := [tuple(parameter.shape) for parameter in held if id(parameter) not in known]:
        raise UnsupportedModelError(
            f"the optimizer holds {len(foreign)} parameters that are none of the model's, the first of shape "
            f"{list(foreign[0])}. "
            "Make it from model.parameters() of the very model that grows."
        )
    return {id(parameter): known[id(parameter)] for parameter in held}
