"""Reading one tensor of a safetensors file, without mapping the file.

The library's own reader for torch reserves memory for the whole file (a private, writable map),
which the system refuses for a file larger than memory. Its reader for numpy does not; it checks the
header here. The bytes of a tensor are then read at their place, so that a disk that fails, or a file
that is cut short meanwhile, is an error and not a crash (SIGBUS)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from growth.errors import CheckpointError
from growth.hf.dtypes import SAFETENSORS


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in a file.

    Args:
        dtype: as the format names it (``BF16``).
        shape: of the tensor.
        start: of its bytes, from the beginning of the file.
        size: number of its bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


def read_header(path: Path, file: FileIO) -> Mapping[str, StoredTensor]:
    """The tensors of a file by name.

    Args:
        path: of the file, which the safetensors library opens to check it.
        file: the same file, open.

    Raises:
        SafetensorError, OSError: if it is not a whole safetensors file.
    """
    with safe_open(path, framework="np"):
        pass
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(length))
    return {
        name: StoredTensor(
            entry["dtype"],
            tuple(entry["shape"]),
            8 + length + entry["data_offsets"][0],
            entry["data_offsets"][1] - entry["data_offsets"][0],
        )
        for name, entry in header.items()
        if name != "__metadata__"
    }


def read_tensor(file: FileIO, stored: StoredTensor, follow: Callable[[int, memoryview], None]) -> Tensor:
    """One tensor, in memory of its own.

    Args:
        file: open and unbuffered.
        stored: where it lies.
        follow: called with the place and the bytes that were read.

    Raises:
        CheckpointError: if the file ends before the tensor does.
        OSError: if it cannot be read.
    """
    content = torch.empty(stored.size, dtype=torch.uint8)
    room, done = content.numpy().data, 0
    file.seek(stored.start)
    while done < stored.size:
        count = file.readinto(room[done:])
        if not count:
            raise CheckpointError(f"{file.name} ends within a tensor. Fetch the file again.")
        done += count
    follow(stored.start, room)
    return content.view(SAFETENSORS[stored.dtype]).reshape(stored.shape)
