"""``.metadata`` of a sharded checkpoint (torch.distributed.checkpoint), read without running what it may
hold.

The file is a pickle, which `growth.hf.dcp_pickle` reads as records that keep what it says of each object.
The records are checked here, and the metadata is made of plain names, sizes and numbers.

    Metadata
      state_dict_metadata   key -> TensorStorageMetadata(properties, size, chunks), or BytesStorageMetadata
      planner_data          key -> path in the nested dictionary that was saved
      storage_data          (key, offsets of a chunk) -> _StorageInfo(relative_path, offset, length)

References:
    torch/distributed/checkpoint/metadata.py and filesystem.py, torch 2.2 to 2.13.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from growth.errors import FOREIGN_ERRORS, CheckpointError, shown
from growth.hf.dcp_pickle import Foreign, Record, numbers, read_pickle

METADATA = ".metadata"

_DEEPEST = 64
"""How deeply an entry may be nested in the dictionary that was saved."""


def read_metadata(path: Path, content: bytes) -> Metadata:
    """The metadata of a sharded checkpoint.

    Args:
        path: of the file, for messages.
        content: what it holds.

    Returns:
        With ``planner_data`` for every key, and chunks that fill every tensor exactly once.

    Raises:
        CheckpointError: a file that is not whole, that names anything but what such metadata is made of,
            or that describes no tensors.

    Example:
        >>> metadata = read_metadata(path, path.read_bytes())
        >>> metadata.state_dict_metadata["model.norm.weight"].size
        torch.Size([64])
    """
    try:
        return _checked(read_pickle(content))
    except Foreign as error:
        raise CheckpointError(
            f"{path} names '{error}', which is no part of the metadata that torch.distributed.checkpoint writes, and "
            "reading it could run code, so nothing of it was read. Save the checkpoint again where you trust it."
        ) from None
    except (*FOREIGN_ERRORS, MemoryError) as error:
        raise CheckpointError(
            f"{path} is not whole metadata of a sharded checkpoint ({_first(error)}). Fetch the file again."
        ) from error


def _state(record: Any, kind: str) -> dict[str, Any]:
    """What is said of an object of a kind."""
    if type(record) is not Record or record.kind != kind:
        raise ValueError(f"a {kind} is expected where {shown(record)} stands")
    held = {} if record.state is None else record.state
    if type(held) is not dict:
        raise ValueError(f"{kind} has no fields")
    return held


def _checked(loaded: Any) -> Metadata:
    top = _state(loaded, "Metadata")
    described, paths = _mapping(top["state_dict_metadata"]), top.get("planner_data")
    storage: dict[MetadataIndex, _StorageInfo] = {}
    if type(top["storage_data"]) is not dict:
        raise ValueError("it does not say where tensors lie")
    for index, info in top["storage_data"].items():
        where, place = _state(index, "MetadataIndex"), _state(info, "_StorageInfo")
        offset = None if where.get("offset") is None else numbers(where["offset"])
        storage[MetadataIndex(_text(where["fqn"]), offset)] = _place(place)
    tensors: dict[str, Any] = {}
    left = len(storage) + len(described)  # of chunks: tensors may share a list of them, and few bytes describe many
    for key, record in described.items():
        if type(record) is Record and record.kind == "BytesStorageMetadata":
            tensors[key] = BytesStorageMetadata()
            continue
        said = _state(record, "TensorStorageMetadata")
        left -= len(said["chunks"])
        if left < 0:
            raise ValueError(f"it does not say where all chunks lie that it counts up to '{key}'")
        tensors[key] = _tensor(key, said)
    for key, tensor in tensors.items():
        offsets = [chunk.offsets for chunk in tensor.chunks] if isinstance(tensor, TensorStorageMetadata) else [None]
        if gone := [offset for offset in offsets if MetadataIndex(key, offset) not in storage]:
            raise ValueError(f"it does not say where '{key}' lies" + (f" from {list(gone[0])} on" if gone[0] else ""))
    named = {key: _path(key, paths[key]) if paths else (key,) for key in tensors}
    return Metadata(tensors, named, storage)


def _tensor(key: str, said: Mapping[str, Any]) -> TensorStorageMetadata:
    """What is said of one tensor, whose chunks must fill it exactly."""
    properties = said["properties"]
    if type(properties) is not Record or properties.kind != "TensorProperties":
        raise ValueError(f"'{key}' has no properties")
    about = properties.state  # a tuple, by its __getstate__
    if type(about) is not tuple or not about or not isinstance(about[0], torch.dtype):
        raise ValueError(f"'{key}' has no dtype")
    if str(about[0]).startswith("torch.q"):
        raise ValueError(f"'{key}' is quantized ({about[0]})")
    size = numbers(said["size"])
    parts = [_state(chunk, "ChunkStorageMetadata") for chunk in said["chunks"]]
    chunks = [(numbers(part["offsets"]), numbers(part["sizes"])) for part in parts]
    if not _fill(size, chunks):
        raise ValueError(f"the {len(chunks)} chunks of '{key}' do not fill {list(size)} exactly once")
    return TensorStorageMetadata(
        TensorProperties(dtype=about[0]),
        torch.Size(size),
        [ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)) for offsets, sizes in chunks],
    )


def _fill(size: tuple[int, ...], chunks: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> bool:
    """Whether chunks (offsets, sizes) lie inside of a tensor, do not overlap, and leave nothing out."""
    if any(not len(offsets) == len(sizes) == len(size) for offsets, sizes in chunks):
        return False
    if any(o + s > whole for offsets, sizes in chunks for o, s, whole in zip(offsets, sizes, size, strict=True)):
        return False
    if sum(math.prod(sizes) for _, sizes in chunks) != math.prod(size):
        return False
    solid = sorted((offsets, sizes) for offsets, sizes in chunks if math.prod(sizes))
    split = [axis for axis in range(len(size)) if any(sizes[axis] != size[axis] for _, sizes in solid)]
    if not split:
        return len(solid) <= 1
    if len(split) == 1:  # FSDP's: one after the other along one dimension
        (axis,) = split
        return all(a[0][axis] + a[1][axis] <= b[0][axis] for a, b in pairwise(solid))
    return _apart(solid, split)


def _apart(chunks: list[tuple[tuple[int, ...], tuple[int, ...]]], axes: list[int]) -> bool:
    """Whether chunks that are cut along several axes do not overlap: no cell of the grid that all their
    offsets and ends make is in two of them. A real grid has about as many cells as chunks."""
    at = [sorted({end for o, s in chunks for end in (o[axis], o[axis] + s[axis])}) for axis in axes]
    cells = math.prod(len(ends) - 1 for ends in at)
    if cells > 64 * len(chunks) + 4096:
        raise ValueError(f"{len(chunks)} chunks are cut along {len(axes)} axes, and not as a grid")
    taken = np.zeros([len(ends) - 1 for ends in at], bool)
    number = [{end: index for index, end in enumerate(ends)} for ends in at]
    for offsets, sizes in chunks:
        inside = taken[
            tuple(
                slice(index[offsets[axis]], index[offsets[axis] + sizes[axis]])
                for index, axis in zip(number, axes, strict=True)
            )
        ]
        if inside.any():
            return False
        inside[...] = True
    return True


def _place(said: Mapping[str, Any]) -> _StorageInfo:
    """Where the bytes of an entry lie: in a file beside the metadata, as they are."""
    name, start, length = said["relative_path"], said["offset"], said["length"]
    if type(name) is not str or len(name) > 255 or name in ("", ".", "..") or any(one in name for one in "/\\\0"):
        raise ValueError(f"it points to {shown(name)}, which is no file beside it")
    if type(start) is not int or type(length) is not int or start < 0 or length < 0:
        raise ValueError(f"it points nowhere in {shown(name)}")
    if said.get("transform_descriptors"):
        raise ValueError(f"'{name}' is compressed or encrypted, by {shown(said['transform_descriptors'])}")
    return _StorageInfo(name, start, length)


def _path(key: str, said: Any) -> tuple[str | int, ...]:
    """Where an entry stood in the nested dictionary, of which torch makes its key."""
    if type(said) is not tuple or not 0 < len(said) <= _DEEPEST or not all(type(part) in (str, int) for part in said):
        raise ValueError(f"{shown(said)} is no path in a dictionary")
    if ".".join(map(str, said)) != key:
        raise ValueError(f"'{key}' is said to have stood at {shown(said)}")
    return said


def _mapping(said: Any) -> dict[str, Any]:
    if type(said) is not dict or not all(type(key) is str for key in said):
        raise ValueError("it does not list tensors by name")
    return said


def _text(said: Any) -> str:
    if type(said) is not str:
        raise ValueError(f"{shown(said)} is no name")
    return said


def _first(error: BaseException) -> str:
    """The first sentence of what somebody's error says."""
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    return " ".join(str(error).split()).split(". ")[0].rstrip(".") or type(error).__name__
