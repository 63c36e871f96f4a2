"""Writing a safetensors file whose tensors arrive one block at a time.

The safetensors library writes a file only if all its tensors are in memory at once. The format is
an 8-byte length, a JSON header and the bytes of the tensors in order; a plan knows every shape in
advance, so the header can be written first.

References:
    The format: the README of huggingface/safetensors.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from growth.hf.dtypes import SAFETENSORS

_SYNC_EVERY = 1 << 27
"""Bytes after which what was written is forced to the disk, so that the disk works while blocks are
computed, and no minutes of it are left for the end."""
_force = getattr(os, "fdatasync", os.fsync)  # not every system has the first, which leaves out the times
_NAMES = {dtype: name for name, dtype in SAFETENSORS.items()}


class SafetensorsWriter:
    """One safetensors file, written in order, and on the disk when the ``with`` block ends. Then
    ``sha256`` is that of its content.

    Args:
        path: the file to make.
        tensors: tensor name -> (shape, dtype), in the order in which they will be appended.

    Raises:
        ValueError: on leaving the ``with`` block, if the bytes appended are not those announced.

    Example:
        >>> with SafetensorsWriter(path, {"w": ((4, 3), torch.float32)}) as writer:
        ...     writer.append(torch.ones(2, 3))     # rows 0 and 1
        ...     writer.append(torch.zeros(2, 3))    # rows 2 and 3
    """

    def __init__(self, path: Path, tensors: Mapping[str, tuple[tuple[int, ...], torch.dtype]]) -> None:
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for name, (shape, dtype) in tensors.items():
            end = offset + math.prod(shape) * dtype.itemsize
            header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
            offset = end
        encoded = json.dumps(header, separators=(",", ":")).encode()
        encoded += b" " * (-len(encoded) % 8)
        self._expected = offset
        self._written = 0
        self._unforced = 0
        self._pool = ThreadPoolExecutor(1)  # one block is written while the next is computed
        self._pending: Future[None] | None = None
        self._digest = hashlib.sha256()
        self._file = path.open("wb")
        self._write(memoryview(len(encoded).to_bytes(8, "little") + encoded))

    def append(self, block: Tensor) -> None:
        """Write the next rows of the current tensor, from any device; its dtype must be the one
        announced."""
        data = block.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        self._flush()
        self._pending = self._pool.submit(self._write, data.data)
        self._written += data.nbytes

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._digest.hexdigest()

    def _write(self, data: memoryview) -> None:
        self._file.write(data)
        self._digest.update(data)
        self._unforced += data.nbytes
        if self._unforced > _SYNC_EVERY:
            self._file.flush()
            _force(self._file.fileno())
            self._unforced = 0

    def _flush(self) -> None:
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def __enter__(self) -> SafetensorsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._flush()
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._pool.shutdown()
            self._file.close()
        if kind is None and self._written != self._expected:
            raise ValueError(f"{self._file.name}: {self._written} bytes were written, {self._expected} announced")
