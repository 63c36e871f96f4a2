"""Writing a folder of torch.distributed.checkpoint whose tensors are made one at a time.

The library plans a save from shapes and dtypes, and asks its planner for each tensor when it is about to
write it. So tensors without data (on the meta device) are enough to plan with. It keeps what it has written until
the file is closed, so the tensors are divided among several files, as among the ranks of a run, written one after the
other. Loading distributes them anew, whatever the number of ranks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import SavePlan, WriteItem, WriteItemType

from growth.errors import ProofError
from growth.hf.dcp_reader import Place

_SMALL = 1 << 26
"""Bytes of tensors that a file may hold however small each of them is."""


class _Planner(DefaultSavePlanner):
    """The library's planner, for tensors that are made when they are written."""

    def __init__(self, places: Mapping[str, Place], make: Callable[[Place], Tensor]) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self.places, self.make = places, make

    def create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
        plans, metadata = super().create_global_plan(all_plans)
        return plans, replace(metadata, planner_data=dict(self.places))

    def resolve_data(self, write_item: WriteItem) -> Tensor | BytesIO:
        if write_item.type == WriteItemType.BYTE_IO:
            return super().resolve_data(write_item)
        key, about = write_item.index.fqn, write_item.tensor_data
        tensor = self.make(self.places[key])
        if about is None or tuple(tensor.shape) != tuple(about.size) or tensor.dtype != about.properties.dtype:
            raise ProofError(f"'{key}' did not come out as planned, {list(tensor.shape)}. Please report this.")
        return tensor.contiguous()


class _Writer(FileSystemWriter):
    """The library's writer, whose metadata names no folder and no number of its own: the same tensors give the
    same files."""

    def storage_meta(self) -> StorageMeta:
        return StorageMeta()


def write_folder(
    folder: Path, entries: Mapping[Place, Any], make: Callable[[Place], Tensor], limit: int | None = None
) -> None:
    """Write a folder that ``torch.distributed.checkpoint.load`` reads.

    Args:
        folder: to make.
        entries: where each stood in the nested dictionary -> a tensor of its shape and dtype, which may be on
            the meta device, or anything else that torch.save writes.
        make: place of a tensor -> it. Called once each, in the order of ``entries``.
        limit: largest file in bytes, unless a tensor alone is larger. By default none is larger than the
            largest tensor, so that no more than that is kept in memory beside the one that is made.

    Raises:
        OSError: of the file system.
        Whatever ``make`` raises.

    Example:
        >>> write_folder(path, {("model", "w"): torch.empty(2, 3, device="meta")}, lambda place: torch.ones(2, 3))
    """
    places = {".".join(map(str, place)): place for place in entries}
    state = {".".join(map(str, place)): value for place, value in entries.items()}
    planner = _Planner(places, make)
    writer = _Writer(folder, thread_count=1, per_thread_copy_ahead=0)
    with _plain_errors():
        planner.set_up_planner(state, writer.storage_meta(), True)
        writer.set_up_storage_writer(True)
        plan = writer.prepare_local_plan(planner.create_local_plan())
        plans, metadata = planner.create_global_plan([SavePlan(items) for items in _files(plan.items, limit)])
        written = []
        for part in writer.prepare_global_plan(plans):
            written.append(writer.write_data(planner.finish_plan(part), planner).wait())
        writer.finish(metadata, written)


def _files(items: Sequence[WriteItem], limit: int | None) -> list[list[WriteItem]]:
    """The entries of each file, in order; those that are no tensors in the first."""
    tensors = [item.tensor_data for item in items]
    sizes = [about.size.numel() * about.properties.dtype.itemsize if about else 0 for about in tensors]
    most = min(max(_SMALL, *sizes), limit or sys.maxsize)
    files: list[list[WriteItem]] = [[item for item in items if item.tensor_data is None]]
    filled = 0
    for item, size in zip(items, sizes, strict=True):
        if item.tensor_data is None:
            continue
        if filled and filled + size > most:
            files.append([])
            filled = 0
        files[-1].append(item)
        filled += size
    return files


def write_file(path: Path, value: Any) -> None:
    """Write a file that ``torch.load`` reads.

    Raises:
        OSError: of the file system.
    """
    with _plain_errors(), path.open("wb") as file:
        torch.save(value, file)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """The error of the file system, in place of what torch makes of a write that fails."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def meta(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor without data, to plan with."""
    return torch.empty(shape, dtype=dtype, device="meta")
