"""The pickle in ``.metadata`` of a sharded checkpoint, read as data.

A pickle is a program for a stack machine. Here only those operations are carried out that such metadata is
written with, and none of them calls a function, makes an object of a class that the file names, or writes to
one. Each takes time and memory in proportion to its bytes, however values share and contain one another.

References:
    pickletools of Python's library, which says what each operation does.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from growth.architectures.sizes import LARGEST
from growth.errors import shown

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
"""(Module, name) of what such a pickle is made of -> the kind of record that stands for it."""

_DTYPES = {
    ("torch", str(dtype).removeprefix("torch.")): dtype
    for dtype in vars(torch).values()
    if isinstance(dtype, torch.dtype)
}

_AXES = 64
"""The largest number of dimensions that torch's tensors may have."""


class Foreign(Exception):
    """A name that is not part of such metadata."""


class Record:
    """What a pickle says of one object.

    Args:
        kind: the name of its class.
        state: what the object would be made of.
    """

    __slots__ = ("kind", "state")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.state: Any = None

    def __repr__(self) -> str:
        return self.kind


@dataclass(frozen=True)
class _Name:
    """What a pickle may call with arguments, and what that makes of them."""

    called: str
    make: Callable[[tuple[Any, ...]], Any]

    def __repr__(self) -> str:
        return self.called


def numbers(said: Any) -> tuple[int, ...]:
    """A torch.Size: of any size that a model can have. Raises ValueError for anything else."""
    if type(said) not in (tuple, list) or len(said) > _AXES:
        raise ValueError(f"{shown(said)} is no size")
    if not all(type(one) is int and 0 <= one <= LARGEST for one in said):
        raise ValueError(f"{shown(said)} is no size")
    return tuple(said)


def _size(arguments: tuple[Any, ...]) -> tuple[int, ...]:
    return numbers(*arguments)


def _layout(arguments: tuple[Any, ...]) -> str:
    if arguments != ("torch.strided",):
        raise ValueError(f"the layout {shown(arguments)} is not that of a weight")
    return "torch.strided"


def _record(kind: str) -> _Name:
    return _Name(kind, lambda arguments: Record(kind))


_KNOWN: dict[tuple[str, str], Any] = {
    **{pair: _record(kind) for pair, kind in _RECORDS.items()},
    **_DTYPES,
    ("torch", "Size"): _Name("torch.Size", _size),
    ("torch.serialization", "_get_layout"): _Name("a layout", _layout),
}


class _Machine:
    """The stack, the memo and what each operation does to them."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: list[Any] = []

    def marked(self) -> list[Any]:
        """What was put on the stack since the last mark."""
        found, self.stack = self.stack, self.below.pop()
        return found

    def last(self, count: int) -> list[Any]:
        """The uppermost values."""
        if len(self.stack) < count:
            raise ValueError("it takes more values than there are")
        found = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return found

    def top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise ValueError(f"a {kind.__name__.lower()} is expected where {shown(self.stack[-1])} stands")
        return self.stack[-1]

    def append(self, values: list[Any]) -> None:
        self.top(list).extend(values)

    def put(self, values: list[Any]) -> None:
        """Put keys and values, by turns, into a dictionary."""
        held = self.top(dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) not in (str, Record):  # the hash of others may take as long as a file likes
                raise ValueError(f"{shown(key)} is no key of one")
            held[key] = value

    def find(self) -> None:
        module, name = self.last(2)
        if type(module) is not str or type(name) is not str:
            raise ValueError(f"{shown(name)} is no name")
        if (module, name) not in _KNOWN:
            raise Foreign(f"{module}.{name}")
        self.stack.append(_KNOWN[module, name])

    def make(self) -> None:
        named, arguments = self.last(2)
        if type(named) is not _Name or type(arguments) is not tuple:
            raise ValueError(f"{shown(named)} makes nothing")
        self.stack.append(named.make(arguments))

    def build(self) -> None:
        (state,) = self.last(1)
        self.top(Record).state = state

    def number(self, value: int) -> None:
        if abs(value) >= 1 << 63:
            raise ValueError(f"{shown(value)} is too large a number")
        self.stack.append(value)

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []


def _pushed(machine: _Machine, value: Any) -> None:
    machine.stack.append(value)


_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    "MARK": lambda machine, _: machine.mark(),
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1"), _Machine.number),
    **dict.fromkeys(("SHORT_BINUNICODE", "BINUNICODE"), _pushed),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "TUPLE": lambda machine, _: _pushed(machine, tuple(machine.marked())),
    "TUPLE1": lambda machine, _: machine.stack.append(tuple(machine.last(1))),
    "TUPLE2": lambda machine, _: machine.stack.append(tuple(machine.last(2))),
    "TUPLE3": lambda machine, _: machine.stack.append(tuple(machine.last(3))),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "APPEND": lambda machine, _: machine.append(machine.last(1)),
    "APPENDS": lambda machine, _: machine.append(machine.marked()),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "SETITEM": lambda machine, _: machine.put(machine.last(2)),
    "SETITEMS": lambda machine, _: machine.put(machine.marked()),
    "MEMOIZE": lambda machine, _: machine.memo.append(machine.stack[-1]),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda machine, at: machine.stack.append(machine.memo[at])),
    "STACK_GLOBAL": lambda machine, _: machine.find(),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), lambda machine, _: machine.make()),
    "BUILD": lambda machine, _: machine.build(),
}
"""The operations that Python 3.8 and later pickle such metadata with."""


def read_pickle(content: bytes) -> Any:
    """What the pickle of such metadata says: `Record`, dictionaries with names or records as keys, lists,
    tuples, texts, whole numbers, dtypes.

    Raises:
        Foreign: a name that such metadata does not have.
        ValueError, IndexError: anything else that it does not have, or a file that is not whole.

    Example:
        >>> read_pickle(pickle.dumps({"a": (1, torch.float32)}))
        {'a': (1, torch.float32)}
    """
    machine = _Machine()
    for operation, argument, place in pickletools.genops(content):
        if operation.name not in _OPERATIONS:
            raise ValueError(f"{operation.name} at byte {place} is no part of one")
        _OPERATIONS[operation.name](machine, argument)
    return machine.last(1)[0]
