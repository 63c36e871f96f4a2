"""The files beside weights and config: tokenizer, templates, licence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from growth.hf.companion_names import INDICES, companions, is_weights
from growth.hf.config_json import read_json
from growth.hf.dtypes import dtype_name
from growth.hf.source_files import SourceFiles, leaves
from growth.plan.plan import Plan


def copy_companions(source: SourceFiles, folder: Path, covered: Sequence[str]) -> tuple[str, ...]:
    """Copy tokenizer files and the like.

    Args:
        source: the source's files. One behind a symbolic link that leaves its folder is not copied.
        folder: where to.
        covered: files and folders that were grown or copied already, relative to the source's.

    Returns:
        The names of the files that were not copied, hidden ones aside; of a link that leaves the
        folder, with where it leads.
    """
    home = source.folder
    wanted = [
        path
        for path in companions(home)
        if leaves(path, home) is None and path.relative_to(home).parts[0] not in covered
    ]
    for path in wanted:
        copy = folder / path.relative_to(home)
        copy.parent.mkdir(exist_ok=True)
        source.copy(path, copy)
    done = {*wanted, *(home / name for name in (*covered, *INDICES, "config.json", "growth.json"))}
    done |= set() if leaves(home / "README.md", home) else {home / "README.md"}
    done |= {path for path in home.iterdir() if is_weights(path.name)}
    parents = {path for one in done for path in (one, one.parent) if path.is_dir()} - {home}
    there = [*home.iterdir(), *(path for parent in parents for path in parent.iterdir())]
    behind = {*there} - done - parents
    return tuple(sorted(_named(path, home) for path in behind if not path.name.startswith(".")))


_BY_NUMBER = ("assistant_early_exit", "dola_layers")
"""Settings of generation that name layers by their number."""


def companion_notes(source: SourceFiles, plan: Plan) -> list[str]:
    """What the caller should know about the files that are copied, a sentence each.

    Args:
        source: the source's files.
        plan: how the model grows.

    Raises:
        CheckpointError: a generation config that is no JSON.
    """
    path = source.folder / "generation_config.json"
    deeper = plan.extension is not None and bool(plan.extension.stacks)
    if not deeper or not path.is_file() or leaves(path, source.folder) is not None:
        return []
    held = read_json(path)
    fields = {name: held.get(name) for name in _BY_NUMBER} if isinstance(held, dict) else {}
    return [
        f"generation_config.json is copied as it is, but its {name} ({value}) names layers by their number, which are "
        "other layers now; edit it"
        for name, value in fields.items()
        if isinstance(value, (int, list)) and value
    ]


def _named(path: Path, home: Path) -> str:
    outside = leaves(path, home)
    name = path.relative_to(home).as_posix()
    return name if outside is None else f"{name} (a link to {outside}, outside the folder)"


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def written_files(folder: Path) -> list[str]:
    """The files in a folder, except for names that JSON or a terminal could not show."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [name for name in names if name.isprintable()]


def with_dtype(raw: Mapping[str, Any], dtype: torch.dtype | None) -> dict[str, Any]:
    """The config with the dtype of the result, in the field that has it (``dtype``, or
    ``torch_dtype`` in older configs). Without such a field, transformers takes the dtype from the
    weights."""
    if dtype is None:
        return dict(raw)
    return {key: dtype_name(dtype) if key in ("dtype", "torch_dtype") else value for key, value in raw.items()}
