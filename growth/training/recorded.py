"""How the model in a folder grew, worked out again from its ``config.json`` and ``growth.json``."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any

from growth.errors import FOREIGN_ERRORS, CheckpointError
from growth.hf.config_json import read_json, section_at
from growth.hf.reader import resolve
from growth.infer.prepare import prepare
from growth.plan.options import Choices, chosen
from growth.plan.plan import Plan


def recorded_plan(folder: str | os.PathLike[str]) -> Plan:
    """The plan by which the model in a folder grew.

    ``growth.json`` records the choices and what they changed in the config. Undoing the changes
    gives the old config, and a plan depends on nothing but that and the choices.

    Args:
        folder: what `growth.widen_checkpoint` wrote, or its hub id.

    Raises:
        CheckpointError: a folder without ``growth.json``; or with one that does not belong to its
            ``config.json``, or that another version of growth would not write today.
        GrowthError: anything that stands in the way of planning that growth again.
    """
    path = resolve(folder) / "growth.json"
    if not path.is_file():
        raise CheckpointError(
            f"{folder} has no growth.json, so it does not say how the model grew. Name the folder that growth wrote, "
            "or give the plan: growth.plan_widening(SMALL, **the same choices)."
        )
    record, config = read_json(path), read_json(path.with_name("config.json"))
    try:
        changes, options, shapes = _recorded(record)
        old = _undone(config, {name: pair[0] for name, pair in changes.items()})
        plan = prepare(old, chosen(options))
    except FOREIGN_ERRORS as error:
        raise CheckpointError(
            f"{path} is not a record that growth wrote ({type(error).__name__}: {error}). Give the plan instead: "
            "growth.plan_widening(SMALL, **the same choices)."
        ) from error
    again = {tensor.canonical: tensor.new_shape for tensor in plan.tensors.values()}
    spelled = {plan.architecture.canonical(name): tuple(shape) for name, shape in shapes.items()}
    other = next((name for name in again.keys() & spelled.keys() if again[name] != spelled[name]), None)
    if other is not None or not again.keys() & spelled.keys():
        said = (
            f"'{other}' would have shape {list(again[other])}, not {list(spelled[other])}" if other else "all differ"
        )
        raise CheckpointError(
            f"{path} and the config.json beside it no longer give the growth that was recorded: {said}. Use the "
            "version of growth that wrote it (`versions` in the file), or give the plan: "
            "growth.plan_widening(SMALL, **the same choices)."
        )
    return plan


def _recorded(record: Any) -> tuple[Mapping[str, Any], Choices, Mapping[str, Any]]:
    """What a record has of changes of the config, of options, and of shapes after growth."""
    plan = record["plan"]
    return plan["config_changes"], plan["options"], {tensor["name"]: tensor["new"] for tensor in plan["tensors"]}


def _undone(config: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """A config with fields (dotted inside a nested config) set to what they were; None for absent."""
    result = copy.deepcopy(dict(config))
    for path, value in old.items():
        section, name = section_at(result, path), path.rpartition(".")[2]
        if value is None:
            section.pop(name, None)
        else:
            section[name] = value
    return result
