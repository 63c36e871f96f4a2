"""``optimizer.pt`` of a `transformers.Trainer` checkpoint: which optimizer wrote it, and which of
its numbers is which parameter.

Trainer gives its optimizer first all parameters that weight decay applies to, then all others, each
in the order of ``named_parameters()`` without the frozen ones, and the file numbers them in that
order."""

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
"""Settings by which the groups of an optimizer are told -> the optimizer, and what it is called."""


_COUNTERS = frozenset({"step", "mu_product"})


_NEXT = "Keep its settings alone with --moments reset, or the weights alone without --optimizer."


def read_optimizer(path: Path) -> dict[str, Any]:
    """The state dict of an optimizer: ``{"state": {number: {name: value}}, "param_groups":
    [{"params": [number, ...], ...}, ...]}``.

    Raises:
        CheckpointError: for a file that is not whole, or holds something else.
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
    """The optimizer that wrote a file and what it is called, told by the settings of its groups and
    the names of its states.

    Where nobody declared it: None, and a name of its that nobody knows.
    """
    entries = [(name, value) for held in loaded["state"].values() for name, value in held.items()]
    for settings, (writer, called) in _WRITERS.items():
        if all(group.keys() >= set(settings) for group in loaded["param_groups"]):
            known = KINDS[writer].state.keys() | _COUNTERS
            odd = [
                name
                for name, value in entries
                if name not in known or (isinstance(value, Tensor) and not is_dense(value))
            ]
            return (None, f"state '{odd[0]}'") if odd else (writer, called)
    return None, f"settings {', '.join(sorted(loaded['param_groups'][0].keys() - {'params', 'initial_lr'}))}"


def check_writer(loaded: Mapping[str, Any]) -> None:
    """Raise UnsupportedModelError for an optimizer whose state nobody declared."""
    writer, odd = writer_of(loaded)
    if writer is None:
        raise UnsupportedModelError(
            f"nobody declared how the state of the optimizer in {OPTIMIZER} ({odd}) follows the gradients, only that "
            "of "
            f"{', '.join(called for _, called in _WRITERS.values())}. {_NEXT}"
        )


def trainer_order(model: PreTrainedModel) -> list[list[str]]:
    """The names of the parameters in the groups that Trainer makes: with weight decay, and
    without."""
    from transformers.trainer import Trainer  # takes seconds

    decayed = set(Trainer.get_decay_parameter_names(None, model))  # type: ignore[arg-type]  # a method that looks at the model alone
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [[name for name in trained if name in decayed], [name for name in trained if name not in decayed]]


def parameter_names(loaded: Mapping[str, Any], model: PreTrainedModel) -> dict[int, str]:
    """Number of each parameter in the file -> its name in ``model``: by the names the file has, if
    it has any, else by Trainer's order.

    Raises:
        CheckpointError: if the file cannot be that of such a model.
    """
    groups, whose = loaded["param_groups"], type(model).__name__
    if all(isinstance(group.get("param_names"), list) for group in groups):
        ordered = [list(map(str, group["param_names"])) for group in groups]
        if unknown := sorted({*chain(*ordered)} - {name for name, _ in model.named_parameters()}):
            raise CheckpointError(f"{OPTIMIZER} names a parameter '{unknown[0]}', which is none of {whose}'s. {_NEXT}")
    else:
        ordered = trainer_order(model)
    if len(groups) != len(ordered):
        raise CheckpointError(
            f"{OPTIMIZER} has {len(groups)} parameter groups where Trainer makes {len(ordered)}, so nothing says "
            "which parameter is which. "
            f"{_NEXT}"
        )
    names: dict[int, str] = {}
    for place, (group, given) in enumerate(zip(groups, ordered, strict=True)):
        if len(group["params"]) != len(given):
            raise CheckpointError(
                f"parameter group {place} in {OPTIMIZER} has {len(group['params'])} parameters where Trainer gives it "
                f"{len(given)} of "
                f"{whose}'s, so nothing says which is which (frozen ones are left out). {_NEXT}"
            )
        names |= dict(zip(group["params"], given, strict=True))
    for number, name in names.items():
        shape = tuple(model.get_parameter(name).shape)
        for key, value in loaded["state"].get(number, {}).items():
            if key not in _COUNTERS and isinstance(value, Tensor) and tuple(value.shape) != shape:
                raise CheckpointError(
                    f"state '{key}' of parameter {number} in {OPTIMIZER} has shape {list(value.shape)}, but by "
                    "Trainer's order that is "
                    f"'{name}' of shape {list(shape)}. {_NEXT}"
                )
    return names


def adagrad_state(
    loaded: Mapping[str, Any], names: Mapping[int, str], model: PreTrainedModel
) -> dict[int, dict[str, Any]]:
    """The state that Adagrad makes when it is built, and does not make again if a file lacks it."""
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
