"""``optimizer.pt`` of a `transformers.Trainer` checkpoint, and which optimizer wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim import SGD, Adagrad, AdamW, Optimizer, RMSprop

from growth.errors import CheckpointError, UnsupportedModelError
from growth.hf.dtypes import FLOATS
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


COUNTERS = frozenset({"step", "mu_product"})
"""States that do not depend on the gradient."""


REMEDY = "Use --moments reset (with --hyper keep and no new layers) for its settings alone, or leave --optimizer out."


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
            known = KINDS[writer].state.keys() | COUNTERS
            odd = [
                name
                for name, value in entries
                if name not in known or (isinstance(value, Tensor) and not _grows(name, value))
            ]
            return (None, f"state '{odd[0]}'") if odd else (writer, called)
    return None, f"settings {', '.join(sorted(loaded['param_groups'][0].keys() - {'params', 'initial_lr'}))}"


def _grows(name: str, value: Tensor) -> bool:
    """Whether a state has numbers that a factor can be applied to: not those of optimizers with 8 bits."""
    return is_dense(value) and (name in COUNTERS or value.dtype in FLOATS)


def check_writer(loaded: Mapping[str, Any]) -> None:
    """Raise UnsupportedModelError for an optimizer whose state has no growth rule."""
    writer, odd = writer_of(loaded)
    if writer is None:
        raise UnsupportedModelError(
            f"the optimizer in {OPTIMIZER} ({odd}) is not supported: its state has no growth rule. Those of "
            f"{', '.join(called for _, called in _WRITERS.values())} have one. {REMEDY}"
        )
