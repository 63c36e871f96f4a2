"""``optimizer.pt`` of a `transformers.Trainer` checkpoint: which optimizer wrote it, and which of
its parameter numbers is which parameter.

The file numbers parameters in the order in which the optimizer got them. Trainer gives it first all
parameters with weight decay, then all others, each in the order of ``named_parameters()`` and
without frozen ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, AdamW, Optimizer, RMSprop
from transformers import PreTrainedModel

from growth.errors import CheckpointError, UnsupportedModelError
from growth.hf.reader import is_dense, unpickle
from growth.training.optimizer_kinds import KINDS

OPTIMIZER = "optimizer.pt"


_WRITERS: dict[tuple[str, ...], tuple[type[Optimizer], str]] = {
    ("betas", "eps"): (AdamW, "Adam family"),
    ("momentum", "dampening", "nesterov"): (SGD, "SGD"),
    ("lr_decay", "initial_accumulator_value"): (Adagrad, "Adagrad"),
    ("alpha", "eps", "centered"): (RMSprop, "RMSprop"),
}
"""Settings that the parameter groups of an optimizer have -> the optimizer, and its name. AdamW
stands for its family: their states grow alike."""


_COUNTERS = frozenset({"step", "mu_product"})
"""States that do not depend on the gradient."""


_REMEDY = "Use --moments reset, which keeps its settings only, or leave --optimizer out."


def read_optimizer(path: Path) -> dict[str, Any]:
    """Read the state dict of an optimizer, without running any code that the file may hold.

    Returns:
        ``{"state": {number: {state name: value}}, "param_groups": [{"params": [number, ...], ...}]}``

    Raises:
        CheckpointError: a file that is truncated, or holds something else.
    """
    loaded = unpickle(path)
    state, groups = (loaded.get("state"), loaded.get("param_groups")) if isinstance(loaded, dict) else (None, None)
    sound = isinstance(state, dict) and all(isinstance(held, dict) for held in state.values())
    sound &= (
        isinstance(groups, list)
        and bool(groups)
        and all(isinstance(g, dict) and isinstance(g.get("params"), list) for g in groups)
    )
    numbers = [number for group in groups for number in group["params"]] if sound and groups else []
    if not sound or not all(isinstance(number, int) for number in numbers):
        raise CheckpointError(f"{path} does not hold the state of an optimizer. Fetch the file again.")
    if len(set(numbers)) != len(numbers) or loaded["state"].keys() - set(numbers):
        raise CheckpointError(
            f"{path} holds the state of parameters that are in none of its groups, or in several. Fetch the file "
            "again."
        )
    return dict(loaded)


def writer_of(loaded: Mapping[str, Any]) -> tuple[type[Optimizer] | None, str]:
    """The optimizer that wrote a file, recognised by the settings of its groups and the names of
    its states.

    Returns:
        The class and its name; for an optimizer without a growth rule, None and the state or the
        settings that are not known.
    """
    entries = [(name, value) for held in loaded["state"].values() for name, value in held.items()]
    for settings, (writer, called) in _WRITERS.items():
        if all(group.keys() >= set(settings) for group in loaded["param_groups"]):
            known = KINDS[writer].state.keys() | _COUNTERS
            odd = [
                name
                for name, value in entries
                if name not in known or (isinstance(value, Tensor) and not _grows(name, value))
            ]
            return (None, f"state '{odd[0]}'") if odd else (writer, called)
    return None, f"settings {', '.join(sorted(loaded['param_groups'][0].keys() - {'params', 'initial_lr'}))}"


def _grows(name: str, value: Tensor) -> bool:
    """Whether a state has numbers that a factor can be applied to: not those of 8-bit optimizers."""
    return is_dense(value) and (name in _COUNTERS or value.is_floating_point())


def check_writer(loaded: Mapping[str, Any]) -> None:
    """Raise UnsupportedModelError for an optimizer whose state has no growth rule."""
    writer, odd = writer_of(loaded)
    if writer is None:
        raise UnsupportedModelError(
            f"the optimizer in {OPTIMIZER} ({odd}) is not supported: its state has no growth rule. Those of "
            f"{', '.join(called for _, called in _WRITERS.values())} have one. {_REMEDY}"
        )


def trainer_order(model: PreTrainedModel) -> list[list[str]]:
    """Parameter names in the two groups that Trainer makes: with weight decay, and without.

    Example:
        >>> trainer_order(GPT2LMHeadModel(config))[1][:2]
        ['transformer.h.0.ln_1.weight', 'transformer.h.0.ln_1.bias']
    """
    from transformers.trainer import Trainer  # takes seconds to import

    decayed = set(Trainer.get_decay_parameter_names(None, model))  # type: ignore[arg-type]  # a method that uses the model only
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [[name for name in trained if name in decayed], [name for name in trained if name not in decayed]]


def is_named(loaded: Mapping[str, Any]) -> bool:
    """Whether the file holds the names of its parameters: that of an optimizer which was made from
    ``named_parameters()``, with torch 2.6 or later."""
    return all(isinstance(group.get("param_names"), list) for group in loaded["param_groups"])


def parameter_names(loaded: Mapping[str, Any], model: PreTrainedModel) -> dict[int, str]:
    """Parameter number in the file -> parameter name in ``model``.

    By the names in the file, if it has them (``param_names``), otherwise by Trainer's order.

    Args:
        loaded: the content of the file (`read_optimizer`).
        model: of the class that was trained; it may be on the meta device.

    Raises:
        CheckpointError: numbers, names or shapes that do not fit the model.
    """
    groups, whose = loaded["param_groups"], type(model).__name__
    if is_named(loaded):
        ordered = [list(map(str, group["param_names"])) for group in groups]
        if unknown := sorted({*chain(*ordered)} - {name for name, _ in model.named_parameters()}):
            raise CheckpointError(
                f"{OPTIMIZER} names a parameter '{unknown[0]}', which {whose} does not have. {_REMEDY}"
            )
    else:
        ordered = trainer_order(model)
    if len(groups) != len(ordered):
        raise CheckpointError(
            f"{OPTIMIZER} has {len(groups)} parameter groups where Trainer makes {len(ordered)}, so it is unknown "
            f"which parameter is which. {_REMEDY}"
        )
    names: dict[int, str] = {}
    for place, (group, given) in enumerate(zip(groups, ordered, strict=True)):
        if len(group["params"]) != len(given):
            raise CheckpointError(
                f"parameter group {place} in {OPTIMIZER} has {len(group['params'])} parameters where Trainer gives it "
                f"{len(given)} of {whose}'s (without frozen ones), so it is unknown which is which. {_REMEDY}"
            )
        names |= dict(zip(group["params"], given, strict=True))
    for number, name in names.items():
        shape = tuple(model.get_parameter(name).shape)
        for key, value in loaded["state"].get(number, {}).items():
            if key not in _COUNTERS and isinstance(value, Tensor) and tuple(value.shape) != shape:
                raise CheckpointError(
                    f"state '{key}' of parameter {number} in {OPTIMIZER} has shape {list(value.shape)}, but by "
                    f"Trainer's order that is '{name}' of shape {list(shape)}. {_REMEDY}"
                )
    return names


def adagrad_state(
    loaded: Mapping[str, Any], names: Mapping[int, str], model: PreTrainedModel
) -> dict[int, dict[str, Any]]:
    """The state of a new Adagrad, for ``moments="reset"``. Adagrad makes it when it is built, and
    would fail at its first step if the file it loads had none.

    Args:
        loaded: the content of the file (`read_optimizer`).
        names: parameter number -> parameter name.
        model: the grown one; it may be on the meta device.

    Returns:
        Parameter number -> state name -> value.
    """
    state: dict[int, dict[str, Any]] = {}
    for group in loaded["param_groups"]:
        for number in group["params"]:
            held = loaded["state"].get(number, {}).get("sum")
            dtype = held.dtype if isinstance(held, Tensor) else torch.float32
            full = torch.full(
                model.get_parameter(names[number]).shape, group["initial_accumulator_value"], dtype=dtype
            )
            state[number] = {"step": torch.tensor(0.0), "sum": full}
    return state
