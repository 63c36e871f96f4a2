"""Settings per tensor in a Trainer checkpoint: the parameter groups in ``optimizer.pt`` split by the
factors their parameters take (`growth.training.factors`), and ``scheduler.pt`` with an entry for each.

Trainer makes two groups by itself. It takes others through ``optimizer_cls_and_kwargs``
(`growth.training.parameter_groups`), and then loads these files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from growth.checkpoint.parameter_numbers import Numbers
from growth.checkpoint.trainer_files import SCHEDULER
from growth.errors import CheckpointError
from growth.hf.reader import unpickle
from growth.training.factors import Factors, times
from growth.training.optimizer import ORIGIN, split_groups
from growth.training.optimizer_checks import Hyper
from growth.training.optimizer_kinds import Kind

RATES = ("base_lrs", "_last_lr", "min_lrs", "max_lrs")
"""Entries of a scheduler's state with a learning rate for each group."""

OTHERS = ("lr_lambdas",)
"""Entries with something else for each group."""

SHARED = ("eta_min", "max_lr", "min_lr", "base_lr")
"""A learning rate for all groups, which cannot be scaled for each."""

Sources = Sequence[tuple[int, float]]


def is_split(loaded: Mapping[str, Any], hyper: Hyper) -> bool:
    """Whether the grown file has other groups than Trainer makes: this growth splits them, or one before did."""
    return hyper == "preserve" or any(ORIGIN in group for group in loaded["param_groups"])


def grown_groups(
    loaded: Mapping[str, Any],
    kind: Kind | None,
    numbers: Numbers,
    new: PreTrainedModel,
    factors: Mapping[str, Factors],
) -> tuple[list[dict[str, Any]], Sources]:
    """The parameter groups of the grown ``optimizer.pt``.

    Args:
        loaded: the content of the file.
        kind: of the optimizer, for settings that continue training as the small model's; None for settings that
            stay.
        numbers: of the parameters.
        new: the model after growth, on any device.
        factors: of each of its parameters, where settings continue training.

    Returns:
        The groups; and for each the index of the old one and the factor on its learning rate.
    """
    groups, sources = split_groups(loaded["param_groups"], numbers.held, new, factors, kind)
    numbered = {name: number for number, name in numbers.new.items()}
    for group in groups:
        group["params"] = [numbered[name] for name in group["params"]]
    return groups, sources


def grown_schedule(folder: Path, sources: Sources) -> dict[str, Any]:
    """The content of ``scheduler.pt`` for groups that were split.

    Args:
        folder: the checkpoint that grows.
        sources: for each new group the index of the old one and the factor on its learning rate.

    Raises:
        CheckpointError: a file that cannot be read, or a scheduler that keeps per group what is not known.

    Example:
        ``{"base_lrs": [0.1, 0.1], "last_epoch": 7}`` of two groups, of which the first becomes two, at
        1 and at 1/2 times its rate: ``{"base_lrs": [0.1, 0.05, 0.1], "last_epoch": 7}``.
    """
    state = unpickle(folder / SCHEDULER)
    count = 1 + max(index for index, _ in sources)
    if not isinstance(state, dict):
        raise CheckpointError(f"{folder / SCHEDULER} does not hold the state of a scheduler. Fetch the file again.")
    grown = dict(state)
    for name, value in state.items():
        if name in SHARED and value and any(rate != 1 for _, rate in sources):
            raise CheckpointError(
                f"{SCHEDULER} has one learning rate '{name}' for all parameter groups, which cannot follow the rates "
                "of each. Leave --hyper out: settings then stay, and the file is copied."
            )
        if not isinstance(value, list) or not value:
            continue
        if name not in (*RATES, *OTHERS) or len(value) != count:
            raise CheckpointError(
                f"{SCHEDULER} keeps {len(value)} values under '{name}', which are not known to be one for each of the "
                f"{count} parameter groups. Leave --hyper out: settings then stay, and the file is copied."
            )
        grown[name] = [times(value[index], rate) if name in RATES else value[index] for index, rate in sources]
    return grown
