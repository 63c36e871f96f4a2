"""One folder that torch.distributed.checkpoint wrote, read entry by entry in one process.

Each part of an entry is a file of ``torch.save`` inside of one of the folder's. It is read without running code,
and must be what the metadata (`growth.hf.dcp_metadata`) says of it: torch's own reader casts and cuts what is not.
It must not unfold to more than the bytes it takes, and no file may be a link out of the folder. The metadata is
read once, and of the files only the parts that an entry needs."""

from __future__ import annotations

import os
from io import SEEK_CUR, SEEK_END, SEEK_SET, BufferedReader, FileIO, RawIOBase
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex, TensorStorageMetadata

from growth.errors import FOREIGN_ERRORS, CheckpointError
from growth.hf.dcp_metadata import METADATA, read_metadata
from growth.hf.reader import is_dense
from growth.hf.source_files import SourceFiles

Place = tuple[str | int, ...]
"""Where an entry stood in the nested dictionary that was saved: ``("model", "lm_head.weight")``."""


_AROUND = 1 << 16
"""Bytes that a file of torch.save may have beside the numbers of its tensor; it has about 1,000."""


class _Part(RawIOBase):
    """Some of the bytes of a file, as a file. torch's own counts wrongly from the end."""

    def __init__(self, file: FileIO, start: int, length: int) -> None:
        self._file, self._start, self._length, self._at = file, start, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        at = {SEEK_SET: 0, SEEK_CUR: self._at, SEEK_END: self._length}[whence] + offset
        if at < 0:
            raise ValueError(f"there is no byte {at} of it")
        self._at = at
        return at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        here = memoryview(buffer)[: max(self._length - self._at, 0)]
        self._file.seek(self._start + self._at)
        count = self._file.readinto(here) or 0
        self._at += count
        return count


class ShardedFolder:
    """An open folder of torch.distributed.checkpoint.

    Args:
        path: the folder, which lies in that of ``files``.
        files: of the source; each file is noted there before it is read.

    Raises:
        CheckpointError: metadata that is missing, damaged or no plain metadata, or files that are
            missing, shorter than it says, or behind a link.

    Example:
        >>> weights = ShardedFolder(Path("out/pytorch_model_fsdp_0"), SourceFiles(Path("out")))
        >>> weights.read(("model", "lm_head.weight")).shape
        torch.Size([32000, 4096])
    """

    def __init__(self, path: Path, files: SourceFiles) -> None:
        self.path, self._files = path, files
        self.metadata: Metadata = read_metadata(path / METADATA, b"".join(files.parts(path / METADATA)))
        self.keys: dict[Place, str] = {place: key for key, place in self.metadata.planner_data.items()}
        if len(self.keys) < len(self.metadata.planner_data):
            raise CheckpointError(f"{path / METADATA} lists an entry twice. Save the checkpoint again.")
        self.files = [path / METADATA, *self._check_files()]

    def _check_files(self) -> list[Path]:
        """The files that entries lie in, each of which is there and long enough."""
        needed: dict[str, int] = {}
        for info in self.metadata.storage_data.values():
            needed[info.relative_path] = max(needed.get(info.relative_path, 0), info.offset + info.length)
        for name, size in sorted(needed.items()):
            if not os.path.lexists(self.path / name):
                raise CheckpointError(
                    f"{self.path} lacks '{name}', in which its {METADATA} says that tensors lie. Fetch the missing "
                    "file: every rank wrote one."
                )
            self._files.note(self.path / name)
            if (there := (self.path / name).stat().st_size) < size:
                raise CheckpointError(
                    f"{self.path / name} is cut short: it has {there:,} bytes, and {METADATA} says that it has "
                    f"{size:,} at least. Fetch the file again."
                )
        return [self.path / name for name in sorted(needed)]

    def tensor(self, place: Place) -> TensorStorageMetadata | None:
        """The size and the dtype of an entry; None for one that is no tensor."""
        found = self.metadata.state_dict_metadata[self.keys[place]]
        return found if isinstance(found, TensorStorageMetadata) else None

    def read(self, place: Place) -> Any:
        """One entry: a tensor in memory of its own, or whatever else was saved.

        Raises:
            CheckpointError: if it cannot be read, or needs code to be read.
        """
        key, about = self.keys[place], self.tensor(place)
        try:
            if about is None:
                return self._load(MetadataIndex(key))
            target = torch.empty(about.size, dtype=about.properties.dtype)
            for chunk in about.chunks:
                if not chunk.sizes.numel():
                    continue
                part = self._load(MetadataIndex(key, chunk.offsets), chunk.sizes.numel() * target.itemsize)
                _check_part(part, chunk, target.dtype)
                inside = tuple(slice(at, at + size) for at, size in zip(chunk.offsets, chunk.sizes, strict=True))
                target[inside] = part.detach()
            return target
        except (*FOREIGN_ERRORS, BadZipFile) as error:
            if isinstance(error, UnpicklingError) and "weights_only" in str(error).lower():
                raise CheckpointError(
                    f"entry '{key}' in {self.path} cannot be read safely: it needs full unpickling, which runs code. "
                    "Save the checkpoint again where you trust it."
                ) from error
            raise CheckpointError(
                f"entry '{key}' in {self.path} cannot be read ({' '.join(str(error).split())[:200].rstrip('.')}). "
                "Fetch the files again."
            ) from error

    def _load(self, index: MetadataIndex, most: int | None = None) -> Any:
        """What was saved as one part.

        Args:
            index: of the part.
            most: bytes of its tensor; None for another value.
        """
        place = self.metadata.storage_data[index]
        path = self.path / place.relative_path
        self._files.note(path)
        with self._files.open(path) as file:
            part = BufferedReader(_Part(file, place.offset, place.length))
            _check_stored(part, place.length if most is None else min(place.length, most + _AROUND))
            part.seek(0)
            return torch.load(part, map_location="cpu", weights_only=True)


def _check_stored(part: IO[bytes], most: int) -> None:
    """Refuse a file of torch.save that unfolds to more than it takes, which torch never writes."""
    with ZipFile(part) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != ZIP_STORED for entry in entries):
        raise ValueError("it is compressed, and torch.save compresses nothing")
    if (size := sum(entry.file_size for entry in entries)) > most:
        raise ValueError(f"it holds {size:,} bytes where {most:,} are the most that it can need")


def _check_part(part: Any, chunk: ChunkStorageMetadata, dtype: torch.dtype) -> None:
    """Refuse what is not the tensor that the metadata describes."""
    if not is_dense(part):
        raise ValueError(f"a {type(part).__name__} is stored where a tensor of {dtype} is said to be")
    if part.shape != chunk.sizes or part.dtype != dtype:
        raise ValueError(
            f"{list(part.shape)} of {part.dtype} are stored where {METADATA} says {list(chunk.sizes)} of {dtype}"
        )
