"""``.metadata`` of a sharded checkpoint (torch.distributed.checkpoint), read without running what it may
hold.

The file is a pickle, and a pickle may call any function it can name. Here it can name those of an exact
list, and none of them is the real one: each stands for a record that keeps what the pickle says of it.
The records are then checked, and the metadata is made of plain names, sizes and numbers.

    Metadata
      state_dict_metadata   key -> TensorStorageMetadata(properties, size, chunks), or BytesStorageMetadata
      planner_data          key -> path in the nested dictionary that was saved
      storage_data          (key, offsets of a chunk) -> _StorageInfo(relative_path, offset, length)

References:
    torch/distributed/checkpoint/metadata.py and filesystem.py, torch 2.2 to 2.13.
"""

from __future__ import annotations

import math
import pickle
import pickletools
from collections.abc import Callable, Mapping
from io import BytesIO
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

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

from growth.architectures.sizes import LARGEST
from growth.errors import FOREIGN_ERRORS, CheckpointError, shown

METADATA = ".metadata"

_CHECKPOINT, _SHARDED = "torch.distributed.checkpoint", "torch.distributed._shard.sharded_tensor.metadata"

_RECORDS = {
    **{
        (f"{_CHECKPOINT}.metadata", name): name
        for name in (
            *("Metadata", "MetadataIndex", "StorageMeta", "TensorStorageMetadata", "BytesStorageMetadata"),
            *("ChunkStorageMetadata", "TensorProperties", "_MEM_FORMAT_ENCODING"),
        )
    },
    (f"{_CHECKPOINT}.filesystem", "_StorageInfo"): "_StorageInfo",
    (_SHARDED, "TensorProperties"): "TensorProperties",  # up to torch 2.2
    (_SHARDED, "MEM_FORMAT_ENCODING"): "_MEM_FORMAT_ENCODING",
    **{(module, name): "path" for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "WindowsPath")},
}
"""(Module, name) of what such a pickle is made of -> the record that stands for it."""

_OPERATIONS = frozenset(
    (
        *("PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1"),
        *("SHORT_BINUNICODE", "BINUNICODE", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST"),
        *("APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS", "MEMOIZE", "BINGET", "LONG_BINGET"),
        *("STACK_GLOBAL", "REDUCE", "NEWOBJ", "BUILD"),
    )
)
"""The operations that Python 3.8 and later pickle such metadata with. Others can be made to take hours, or all of the
memory, by a few bytes (``LONG_BINPUT``)."""

_DTYPES = {
    ("torch", str(dtype).removeprefix("torch.")): dtype
    for dtype in vars(torch).values()
    if isinstance(dtype, torch.dtype)
}


class _Record:
    """What a pickle says of one object."""

    state: Any = None

    def __init__(self, *said: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Inert(pickle.Unpickler):
    """An unpickler that makes records, and finds nothing but what is listed."""

    def __init__(self, content: bytes) -> None:
        super().__init__(BytesIO(content))
        kinds = {
            name: type(name, (_Record,), {}) for name in {*_RECORDS.values()}
        }  # new ones: a pickle may write to them
        self.kinds: dict[str, Any] = kinds
        self.known: dict[tuple[str, str], Any] = {
            **{pair: kinds[name] for pair, name in _RECORDS.items()},
            **_DTYPES,
            ("torch", "Size"): _numbers,
            ("torch.serialization", "_get_layout"): _layout,
        }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.known:
            raise _Foreign(f"{module}.{name}")
        return self.known[module, name]


class _Foreign(Exception):
    """A name that is not part of such metadata."""


def _numbers(said: Any) -> tuple[int, ...]:
    """A torch.Size: of any size that a model can have."""
    if type(said) not in (tuple, list) or not all(type(one) is int and 0 <= one <= LARGEST for one in said):
        raise ValueError(f"{shown(said)} is no size")
    return tuple(said)


def _layout(name: Any) -> str:
    if name != "torch.strided":
        raise ValueError(f"the layout {shown(name)} is not that of a weight")
    return "torch.strided"


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
    unpickler = _Inert(content)
    try:
        for operation, _, place in pickletools.genops(content):
            if operation.name not in _OPERATIONS:
                raise ValueError(f"{operation.name} at byte {place} is no part of one")
        return _checked(unpickler.load(), unpickler.kinds)
    except _Foreign as error:
        raise CheckpointError(
            f"{path} names '{error}', which is no part of the metadata that torch.distributed.checkpoint writes, and "
            "reading it could run code, so nothing of it was read. Save the checkpoint again where you trust it."
        ) from None
    except (*FOREIGN_ERRORS, pickle.PickleError, MemoryError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not whole metadata of a sharded checkpoint ({_first(error)}). Fetch the file again."
        ) from error


def _checked(loaded: Any, kinds: Mapping[str, Any]) -> Metadata:
    def state(record: Any, kind: str) -> dict[str, Any]:
        """What a pickle says of an object of a kind."""
        if type(record) is not kinds[kind]:
            raise ValueError(f"a {kind} is expected where {shown(record)} stands")
        held = {} if record.state is None else record.state
        if type(held) is not dict:
            raise ValueError(f"{kind} has no fields")
        return held

    top = state(loaded, "Metadata")
    described, paths = _mapping(top["state_dict_metadata"]), top.get("planner_data")
    tensors: dict[str, Any] = {
        key: _tensor(key, state(record, "TensorStorageMetadata"), state, kinds)
        if type(record) is kinds["TensorStorageMetadata"]
        else _bytes(state(record, "BytesStorageMetadata"))
        for key, record in described.items()
    }
    storage: dict[MetadataIndex, _StorageInfo] = {}
    if type(top["storage_data"]) is not dict:
        raise ValueError("it does not say where tensors lie")
    for index, info in top["storage_data"].items():
        where, place = state(index, "MetadataIndex"), state(info, "_StorageInfo")
        offset = None if where.get("offset") is None else _numbers(where["offset"])
        storage[MetadataIndex(_text(where["fqn"]), offset)] = _place(place)
    for key, tensor in tensors.items():
        offsets = [chunk.offsets for chunk in tensor.chunks] if isinstance(tensor, TensorStorageMetadata) else [None]
        if gone := [offset for offset in offsets if MetadataIndex(key, offset) not in storage]:
            raise ValueError(f"it does not say where '{key}' lies" + (f" from {list(gone[0])} on" if gone[0] else ""))
    named = {key: _path(paths[key]) if paths else (key,) for key in tensors}
    return Metadata(tensors, named, storage)


def _tensor(
    key: str, said: Mapping[str, Any], state: Callable[[Any, str], dict[str, Any]], kinds: Mapping[str, Any]
) -> TensorStorageMetadata:
    """What is said of one tensor, whose chunks must fill it exactly."""
    properties = said["properties"]
    if type(properties) is not kinds["TensorProperties"]:
        raise ValueError(f"'{key}' has no properties")
    about = properties.state  # a tuple, by its __getstate__
    if type(about) is not tuple or not about or not isinstance(about[0], torch.dtype):
        raise ValueError(f"'{key}' has no dtype")
    size = _numbers(said["size"])
    parts = [state(chunk, "ChunkStorageMetadata") for chunk in said["chunks"]]
    chunks = [(_numbers(part["offsets"]), _numbers(part["sizes"])) for part in parts]
    if not _fill(size, chunks):
        raise ValueError(f"the {len(chunks)} chunks of '{key}' do not fill {list(size)} exactly once")
    return TensorStorageMetadata(
        TensorProperties(dtype=about[0]),
        torch.Size(size),
        [ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)) for offsets, sizes in chunks],
    )


def _bytes(said: Mapping[str, Any]) -> BytesStorageMetadata:
    """What is said of an entry that is no tensor: that it is there."""
    return BytesStorageMetadata()


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
    return not any(
        all(o < p + t and p < o + s for o, s, p, t in zip(a[0], a[1], b[0], b[1], strict=True))
        for a, b in combinations(solid, 2)
    )


def _place(said: Mapping[str, Any]) -> _StorageInfo:
    """Where the bytes of an entry lie: in a file beside the metadata, as they are."""
    name, start, length = said["relative_path"], said["offset"], said["length"]
    if type(name) is not str or name in ("", ".", "..") or any(one in name for one in "/\\\0"):
        raise ValueError(f"it points to {shown(name)}, which is no file beside it")
    if type(start) is not int or type(length) is not int or start < 0 or length < 0:
        raise ValueError(f"it points nowhere in {shown(name)}")
    if said.get("transform_descriptors"):
        raise ValueError(f"'{name}' is compressed or encrypted, by {shown(said['transform_descriptors'])}")
    return _StorageInfo(name, start, length)


def _path(said: Any) -> tuple[str | int, ...]:
    if type(said) is not tuple or not said or not all(type(part) in (str, int) for part in said):
        raise ValueError(f"{shown(said)} is no path in a dictionary")
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
