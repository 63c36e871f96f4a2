"""A folder of torch.distributed.checkpoint is written a few tensors at a time, and of its files only what is asked
for is read."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch
from torch import Tensor

from growth.checkpoint import dcp_writer
from growth.checkpoint.dcp_writer import meta, write_folder
from growth.errors import ProofError
from growth.hf.dcp_reader import Place, ShardedFolder
from growth.hf.source_files import SourceFiles

ROWS = 1000


def written(folder: Path, count: int, limit: int | None = None) -> int:
    """Write so many tensors of one size. Returns how many there were at a time at most."""
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    def make(place: Place) -> Tensor:
        nonlocal most
        gc.collect()
        tensor = torch.full((ROWS,), float(str(place[1])))
        alive.append(weakref.ref(tensor))
        most = max(most, sum(one() is not None for one in alive))
        return tensor

    places: list[Place] = [("model", str(number)) for number in range(count)]
    entries = {place: meta((ROWS,), torch.float32) for place in places}
    write_folder(folder, {**entries, ("model", "name"): "a name"}, make, limit)
    return most


@pytest.mark.slow
def test_a_few_tensors_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dcp_writer, "_SMALL", 1)
    assert written(tmp_path / "each", 12) <= 2
    monkeypatch.setattr(dcp_writer, "_SMALL", 3 * 4 * ROWS)
    assert written(tmp_path / "three", 12) <= 4
    assert len(list((tmp_path / "three").glob("*.distcp"))) == 4
    assert written(tmp_path / "limited", 12, limit=2 * 4 * ROWS) <= 3
    assert len(list((tmp_path / "limited").glob("*.distcp"))) == 6
    folder = ShardedFolder(tmp_path / "three", SourceFiles(tmp_path / "three"))
    assert folder.read(("model", "name")) == "a name"
    assert all(folder.read(("model", str(number))).unique().tolist() == [float(number)] for number in range(12))


@pytest.mark.slow
def test_what_is_not_asked_for_is_not_read(tmp_path: Path) -> None:
    written(tmp_path / "state", 12)
    folder = ShardedFolder(tmp_path / "state", SourceFiles(tmp_path / "state"))
    info = next(info for index, info in folder.metadata.storage_data.items() if index.fqn == "model.7")
    path = tmp_path / "state" / info.relative_path
    content = path.read_bytes()
    kept = content[info.offset : info.offset + info.length]
    path.write_bytes(bytes(info.offset) + kept + bytes(len(content) - info.offset - len(kept)))
    changed = ShardedFolder(tmp_path / "state", SourceFiles(tmp_path / "state"))
    assert changed.read(("model", "7")).unique().tolist() == [7.0]


def test_a_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    for made in (torch.ones(4), torch.ones(3, dtype=torch.float64)):
        with pytest.raises(ProofError, match="did not come out as planned"):
            write_folder(tmp_path / "state", {("model", "w"): meta((3,), torch.float32)}, lambda place: made)  # noqa: B023
