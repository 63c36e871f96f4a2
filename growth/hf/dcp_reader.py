"""One folder that torch.distributed.checkpoint wrote, read entry by entry in one process.

The library's own reader and planner do it, with three things made safe: the metadata
(`growth.hf.dcp_metadata`), entries that are no tensors (lists, numbers, settings; read without running
code), and the files, none of which may be a link out of the folder. The metadata is read once, and of
the files only the parts that an entry needs."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import ReadItem

from growth.errors import FOREIGN_ERRORS, CheckpointError
from growth.hf.dcp_metadata import METADATA, read_metadata
from growth.hf.source_files import SourceFiles

Place = tuple[str | int, ...]
"""Where an entry stood in the nested dictionary that was saved: ``("model", "lm_head.weight")``."""


class _Planner(DefaultLoadPlanner):
    """The library's planner, for entries that are read without running code of theirs."""

    def __init__(self) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self.found: Any = None

    def load_bytes(self, read_item: ReadItem, value: BytesIO) -> None:
        self.found = torch.load(value, map_location="cpu", weights_only=True)


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
        self._reader = FileSystemReader(path)
        self._reader.set_up_storage_reader(self.metadata, True)
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
        target = None if about is None else torch.empty(about.size, dtype=about.properties.dtype)
        planner, reader = _Planner(), self._reader
        try:
            planner.set_up_planner({key: target if isinstance(target, Tensor) else BytesIO()}, self.metadata, True)
            plan = reader.prepare_local_plan(planner.create_local_plan())
            plan = reader.prepare_global_plan(planner.create_global_plan([plan]))[0]
            for name in {self.metadata.storage_data[item.storage_index].relative_path for item in plan.items}:
                self._files.note(self.path / name)
            reader.read_data(planner.finish_plan(plan), planner).wait()
        except FOREIGN_ERRORS as error:
            if isinstance(error, UnpicklingError) and "weights_only" in str(error).lower():
                raise CheckpointError(
                    f"entry '{key}' in {self.path} cannot be read safely: it needs full unpickling, which runs code. "
                    "Save the checkpoint again where you trust it."
                ) from error
            raise CheckpointError(
                f"entry '{key}' in {self.path} cannot be read ({' '.join(str(error).split())[:200].rstrip('.')}). "
                "Fetch the files again."
            ) from error
        return planner.found if about is None else target
