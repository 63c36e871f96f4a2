"""Writing safetensors files whose tensors arrive one block at a time.

The library's own writer wants all tensors of a file in memory at once. The format is a length, a
JSON header and the bytes in order (huggingface/safetensors), and a plan knows every shape
beforehand, so the header can go first."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from growth.hf.dtypes import SAFETENSORS

_NAMES = {dtype: name for name, dtype in SAFETENSORS.items()}


class SafetensorsWriter:
    """One file. Append blocks tensor by tensor, in the order of ``tensors``.

    Args:
        path: the file to make.
        tensors: name -> (shape, dtype).

    Raises:
        ValueError: on leaving, if more or less was appended than announced.
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
        self._pool = ThreadPoolExecutor(1)  # one block is written while the next is computed
        self._pending: Future[int] | None = None
        self._file = path.open("wb")
        self._file.write(len(encoded).to_bytes(8, "little") + encoded)

    def append(self, block: Tensor) -> None:
        """The next rows, any device, contiguous."""
        data = block.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        self._flush()
        self._pending = self._pool.submit(self._file.write, data.data)
        self._written += data.nbytes

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
        finally:
            self._pool.shutdown()
            self._file.close()
        if kind is None and self._written != self._expected:
            raise ValueError(f"{self._file.name}: {self._written} bytes were written, {self._expected} announced")
