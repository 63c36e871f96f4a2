"""What ``growth.json`` says about the model that a folder was grown from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from growth.checkpoint.preview import plan_widening
from growth.checkpoint.run_pair import Model
from growth.errors import GrowthError
from growth.hf.config_json import read_json
from growth.hf.reader import open_checkpoint, resolve
from growth.plan.plan import Plan


def recorded_plan(a: Model, b: Model) -> Plan | None:
    """How b grew out of a, by b's ``growth.json``.

    Returns:
        The plan; None where there is no record, or a's config is not that of the model b was grown
        from.
    """
    record = _record(b)
    if record is None or isinstance(a, PreTrainedModel):
        return None
    try:
        if record["source"]["sha256"]["config.json"] != _sha256(resolve(a) / "config.json"):
            return None
        return plan_widening(a, **record["plan"]["options"])
    except (GrowthError, KeyError, TypeError):
        return None


def other_source(a: Model, b: Model) -> str | None:
    """The model that b was grown from, if it is not a.

    ``growth.json`` has the SHA-256 of the source's config and weight files. It is another model if
    any of these files is in folder a with another content. Reads all of a's weights.

    Returns:
        The name of that model; None if that is a, or it is not known (no record,
        a model in memory, weights in other files).
    """
    record = _record(b)
    if record is None or isinstance(a, PreTrainedModel):
        return None
    try:
        name, hashes = str(record["source"]["name"]), dict(record["source"]["sha256"])
        checkpoint = open_checkpoint(a)
    except (GrowthError, KeyError, TypeError, ValueError):
        return None
    files = [checkpoint.folder / "config.json", *checkpoint.weight_files]
    return name if any(hashes.get(path.name) not in (None, _sha256(path)) for path in files) else None


def _record(b: Model) -> Mapping[str, Any] | None:
    """The content of ``growth.json``; None where there is none that can be read."""
    if isinstance(b, PreTrainedModel):
        return None
    path = resolve(b) / "growth.json"
    try:
        record = read_json(path) if path.is_file() else None
    except GrowthError:
        return None
    return record if isinstance(record, dict) else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
