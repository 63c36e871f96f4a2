"""What is finished of a growth that was interrupted, so that the next one can go on with it.

    .wide.growing/
        new/model-00001-of-00004.safetensors          the result so far
        finished/started.json                         what the growth is made of
        finished/model-00001-of-00004.safetensors.json   its size, its SHA-256 and its fold

A file of weights depends on nothing but the plan, the seed, the source and the versions of what
computes it. So where all of these are what they were, the bytes of a growth that goes on are those of
an unbroken one. A file counts as finished once it is on the disk and the note of it is."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
import transformers

from growth.checkpoint.durable import force_one
from growth.checkpoint.ranks import Ranks
from growth.checkpoint.shards import Done, Growth, Shard
from growth.errors import CheckpointError, shown
from growth.hf.config_json import read_json
from growth.version import __version__

STARTED = "started.json"


def made_of(growth: Growth, shards: Sequence[Shard]) -> dict[str, Any]:
    """Everything that the bytes of a growth's weight files depend on, as JSON values.

    Args:
        growth: what the files are made of; of the source's files the sizes and both times of
            change are taken.
        shards: which tensors go into which file.
    """
    plan, source = growth.plan, growth.source
    files = [source.folder / "config.json", *source.weight_files]
    said = {
        "versions": {
            "growth": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "numpy": numpy.__version__,
            "machine": platform.machine(),
        },
        "files": {path.name: _look(path) for path in files},
        "options": {**plan.options.to_json(), "allow_nonfinite": growth.allow_nonfinite},
        "shards": [[shard.file, shard.size] for shard in shards],
        "plan": _digest(plan.to_json()),
        "tensors": _digest([[*shard.names, *(str(growth.dtypes[name]) for name in shard.names)] for shard in shards]),
    }
    return dict(json.loads(json.dumps(said)))


def _look(path: Path) -> list[str | int]:
    """What tells a file from another one of its name: its size, the name by which the hub's cache knows its
    content or else its time of modification, and when anything about it changed."""
    at, real = path.stat(), path.resolve()
    return [at.st_size, real.name if real.parent.name == "blobs" else at.st_mtime_ns, at.st_ctime_ns]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def check_alike(ranks: Ranks, made: Mapping[str, Any]) -> None:
    """Refuse ranks that would write parts of different results.

    Args:
        ranks: the processes that share the work.
        made: what this one's growth is made of (`made_of`).

    Raises:
        CheckpointError: naming the first that differs from rank 0, and in what.
    """
    # A file has the same size and time of modification on all machines that share it, or its copy in the hub's
    # cache the same name.
    known = {**made, "files": {name: look[:2] for name, look in made["files"].items()}}
    first, *others = ranks.gather(known)
    for rank, other in enumerate(others, 1):
        if differs := difference(first, other):
            raise CheckpointError(
                f"rank {rank} of {ranks.count} would write another result than rank 0: {differs}. Give all ranks the "
                "same source, choices and versions."
            )


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two growths (`made_of`), in words; empty where nothing does.

    Example:
        >>> difference({"options": {"width": 2}}, {"options": {"width": 3}})
        'width was 2 and is 3'
    """
    for part in ("versions", "files", "options"):
        old, new = before.get(part, {}), now.get(part, {})
        for name in [*new, *(name for name in old if name not in new)]:
            if old.get(name) != new.get(name):
                if part == "files":
                    return f"{name} of the source is another file, or was written to"
                return f"{name} was {shown(old.get(name))} and is {shown(new.get(name))}"
    if before.get("shards") != now.get("shards"):
        return "the weights are divided into files in another way (--max-shard-size, --dtype)"
    return "" if before == now else "the plan is another one"


def check_same(workspace: Path, made_of: Mapping[str, Any]) -> None:
    """Refuse to go on with another growth than the one whose leftovers a workspace holds.

    Args:
        workspace: the folder beside the destination.
        made_of: what this growth is made of (`made_of`).

    Raises:
        CheckpointError: saying what differs.
    """
    path = workspace / "finished" / STARTED
    before = read_json(path) if path.is_file() else made_of
    if differs := difference(before if isinstance(before, dict) else {}, made_of):
        raise CheckpointError(
            f"what is finished in {workspace} is of another growth: {differs}. Use the same source and choices, or "
            "leave --resume out, which removes it and begins anew."
        )


class Unfinished:
    """The notes about a growth in its workspace.

    Args:
        workspace: the folder beside the destination.
        made_of: what the growth is made of (`made_of`).
    """

    def __init__(self, workspace: Path, made_of: Mapping[str, Any]) -> None:
        self.folder, self.made_of = workspace / "finished", made_of

    def begin(self, shards: Sequence[Shard], new: Path) -> dict[str, Done]:
        """Note what the growth is made of, and remove what is not finished.

        Args:
            shards: of the result.
            new: the folder that the result is written into.

        Returns:
            File -> the note of it, of those that are finished. Their content is not looked at.
        """
        self.folder.mkdir(exist_ok=True)
        for stop in self.folder.glob("stop*"):
            stop.unlink()
        started = self.folder / STARTED
        known = started.is_file()
        if not known:
            _write(started, self.made_of)
        done = {}
        for shard in shards if known else ():
            note, file = self.folder / f"{shard.file}.json", new / shard.file
            read = Done.read(note) if note.is_file() and file.is_file() else None
            if read is not None and read.bytes == file.stat().st_size:
                done[shard.file] = read
        for path in new.rglob("*"):
            if path.is_file() and path.name not in done:
                path.unlink()
        for path in sorted((path for path in new.rglob("*") if path.is_dir()), reverse=True):
            path.rmdir()
        return done

    def add(self, new: Path, done: Done) -> None:
        """Note that a file is finished. It is on the disk before its note is.

        Args:
            new: the folder it is in.
            done: the note.
        """
        force_one(new)
        _write(self.folder / f"{done.file}.json", done.to_json())


def _write(path: Path, value: Mapping[str, Any]) -> None:
    """A JSON file that is there whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    force_one(path.parent)
