"""One weight file of the result, a *shard*: which tensors it holds, and how it is written.

Writing a shard depends on nothing but the source, the plan, the names in it and the seed, and says
what was written: the file, its bytes, their SHA-256, and what reading every tensor back found. So
shards can be written in any order, by any thread, process or machine, today or tomorrow, and the
result is the same to the last byte."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from growth.arguments import whole_number
from growth.checkpoint.safetensors_writer import SafetensorsWriter
from growth.errors import CheckpointError, shown
from growth.hf.reader import Checkpoint
from growth.plan.plan import Plan
from growth.weights.blocks import Each
from growth.weights.fold import Fold
from growth.weights.model_weights import growing_tensors

_UNITS = {
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
    "B": 1,
    "": 1,
}


_PART = 1 << 24
"""Bytes of a file that are hashed at a time."""


@dataclass(frozen=True)
class Shard:
    """A file of the result.

    Args:
        file: its name.
        names: of the tensors in it, in order.
        size: of these tensors, in bytes.
    """

    file: str
    names: tuple[str, ...]
    size: int


@dataclass(frozen=True)
class Done:
    """A shard that has been written.

    Args:
        file: its name.
        bytes: its size.
        sha256: of its content, as it was written.
        fold: what reading its tensors back found.
    """

    file: str
    bytes: int
    sha256: str
    fold: Fold

    def is_in(self, folder: Path, between: Callable[[], None] = lambda: None) -> bool:
        """Whether the file there has the content that was written. ``between`` is called after some
        megabytes; it may raise, to give up."""
        digest = hashlib.sha256()
        with (folder / self.file).open("rb", buffering=0) as file:
            while part := file.read(_PART):
                digest.update(part)
                between()
        return digest.hexdigest() == self.sha256

    def to_json(self) -> dict[str, Any]:
        """As JSON values, which `read` makes it of again."""
        return asdict(self)

    @classmethod
    def read(cls, path: Path) -> Done | None:
        """From a file that holds `to_json`; None if it holds something else."""
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            return cls(held["file"], held["bytes"], held["sha256"], Fold(**held["fold"]))
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class Growth:
    """What all shards of a result are made of.

    Args:
        source: the checkpoint.
        plan: how it grows.
        dtypes: tensor name -> dtype of the result.
        allow_nonfinite: carry NaN and infinity over instead of refusing them.
    """

    source: Checkpoint
    plan: Plan
    dtypes: Mapping[str, torch.dtype]
    allow_nonfinite: bool

    def size(self, name: str) -> int:
        """Of a grown tensor, in bytes."""
        return math.prod(self.plan.tensors[name].new_shape) * self.dtypes[name].itemsize

    def shards(self, limit: int) -> list[Shard]:
        """The files of the result: each takes the next tensor unless it would then exceed ``limit``
        bytes."""
        parts: list[list[str]] = [[]]
        sizes = [0]
        for name in self.plan.tensors:
            size = self.size(name)
            if parts[-1] and sizes[-1] + size > limit:
                parts.append([])
                sizes.append(0)
            parts[-1].append(name)
            sizes[-1] += size
        files = [f"model-{n:05}-of-{len(parts):05}.safetensors" for n in range(1, len(parts) + 1)]
        files = files if len(parts) > 1 else ["model.safetensors"]
        return [Shard(file, tuple(part), size) for file, part, size in zip(files, parts, sizes, strict=True)]


Report = Callable[[int, str], None]
"""Called with (bytes written, name of the tensor) after each block."""


def write_shard(folder: Path, shard: Shard, growth: Growth, report: Report, each: Each = map) -> Done:
    """Grow the tensors of one shard into its file, block by block.

    Args:
        folder: to write into.
        shard: which.
        growth: what it is made of.
        report: told of every block.
        each: like `map`, for the work on the blocks of one tensor.

    Raises:
        CheckpointError, ProofError: as `growth.weights.model_weights.growing_tensors` does.
    """
    plan, fold = growth.plan, Fold()
    announced = {name: (plan.tensors[name].new_shape, growth.dtypes[name]) for name in shard.names}
    with SafetensorsWriter(folder / shard.file, announced) as writer:
        for growing in growing_tensors(
            plan,
            shard.names,
            plan.reading(growth.source.read),
            growth.dtypes,
            fold,
            allow_nonfinite=growth.allow_nonfinite,
        ):
            for block in growing.blocks(each):
                writer.append(block)
                report(block.nbytes, growing.name)
    return Done(shard.file, (folder / shard.file).stat().st_size, writer.sha256, fold)


def index_of(shards: Sequence[Shard]) -> dict[str, Any]:
    """The content of ``model.safetensors.index.json``."""
    weight_map = {name: shard.file for shard in shards for name in shard.names}
    return {
        "metadata": {"total_size": sum(shard.size for shard in shards)},
        "weight_map": dict(sorted(weight_map.items())),
    }


def size_in_bytes(size: str | int) -> int:
    """A size such as ``"5GB"`` in bytes; a number is one of bytes, as in ``save_pretrained``.

    Raises:
        CheckpointError: for what is no size.

    Example:
        >>> size_in_bytes("1.5MB")
        1500000
    """
    whole = whole_number(size)
    number = shown(size if whole is None else whole).strip("'\" ").upper()
    unit = number.lstrip("0123456789.").strip()
    digits = number[: len(number) - len(unit)].strip() if unit else number
    try:
        value = int(float(digits) * _UNITS[unit])
    except (KeyError, ValueError, OverflowError):
        value = 0
    if value <= 0:
        raise CheckpointError(f"max_shard_size must be a size such as '5GB' or '500MB', not {shown(size)}.")
    if isinstance(size, str) and not unit and value < _UNITS["MB"]:
        raise CheckpointError(
            f"max_shard_size {size!r} has no unit, so it is {value} bytes. Say '{digits}GB', or '{digits}B' if bytes "
            "are meant."
        )
    return value
