"""What the files of a sharded folder hold is what ``.metadata`` says, and no more than they take."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import pytest
import torch

from growth.errors import CheckpointError
from growth.hf.dcp_reader import Place, ShardedFolder
from growth.hf.source_files import SourceFiles
from support.fsdp_damage import edit, save

WEIGHT: Place = ("model", "w")


def saved(value: Any, compression: int = ZIP_STORED) -> bytes:
    """A file of torch.save, or one with the same content that is compressed."""
    made, packed = BytesIO(), BytesIO()
    torch.save(value, made)
    with ZipFile(made) as plain, ZipFile(packed, "w", compression) as archive:
        for entry in plain.infolist():
            archive.writestr(entry.filename, plain.read(entry))
    return packed.getvalue() if compression else made.getvalue()


def stored(home: Path, value: Any, content: bytes) -> ShardedFolder:
    """A folder with a value, in whose place something else is stored."""
    save(home, {"model": {"w": value, "other": torch.ones(3)}})
    with (home / "__0_0.distcp").open("r+b") as file:
        start = file.seek(0, 2)
        file.write(content)

    def redirect(metadata: Any) -> None:
        for index, info in metadata.storage_data.items():
            if index.fqn == "model.w":
                info.offset, info.length = start, len(content)

    edit(home, redirect)
    return ShardedFolder(home, SourceFiles(home))


VALUE = torch.arange(24.0).reshape(6, 4)

OTHERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "more rows": (lambda: saved(torch.zeros(9, 4)), r"\[9, 4\] of torch.float32 are stored where .* \[6, 4\]"),
    "fewer rows": (lambda: saved(torch.zeros(1, 4)), r"\[1, 4\] of torch.float32 are stored"),
    "another dtype": (lambda: saved(VALUE.half()), "of torch.float16 are stored where .* of torch.float32"),
    "no tensor": (lambda: saved([1.0, 2.0]), "a list is stored where a tensor"),
    "no numbers": (lambda: saved(torch.zeros(6, 4, device="meta")), "a Tensor is stored where a tensor"),
    "sparse": (lambda: saved(VALUE.to_sparse()), "is stored where a tensor"),
    "compressed": (lambda: saved(VALUE, ZIP_DEFLATED), "it is compressed"),
    "a compressed view of much": (lambda: saved(torch.zeros(1 << 20)[:24].view(6, 4), ZIP_DEFLATED), "compressed"),
    "a view of much": (lambda: saved(torch.zeros(1 << 20)[:24].view(6, 4)), "holds 4,19.,... bytes where 65,632"),
}


@pytest.mark.parametrize("how", OTHERS)
def test_another_tensor_is_refused(how: str, tmp_path: Path) -> None:
    make, says = OTHERS[how]
    folder = stored(tmp_path / "folder", VALUE, make())
    with pytest.raises(CheckpointError, match=rf"'model.w' in .* cannot be read \(.*{says}.*Fetch the files again"):
        folder.read(WEIGHT)
    assert torch.equal(folder.read(("model", "other")), torch.ones(3))


@pytest.mark.parametrize("value", [VALUE, torch.tensor(2.0), torch.zeros(0, 4), torch.arange(3), VALUE.bfloat16()])
def test_the_same_tensor_is_read(value: torch.Tensor, tmp_path: Path) -> None:
    found = stored(tmp_path / "folder", value, saved(value)).read(WEIGHT)
    assert torch.equal(found, value) and found.dtype == value.dtype


@pytest.mark.parametrize("compression", [ZIP_STORED, ZIP_DEFLATED])
def test_an_entry_that_is_no_tensor(compression: int, tmp_path: Path) -> None:
    folder = stored(tmp_path / "folder", 0.5, saved("x" * 1_000_000, compression))
    if compression == ZIP_STORED:
        assert folder.read(WEIGHT) == "x" * 1_000_000
        return
    with pytest.raises(CheckpointError, match="it is compressed"):
        folder.read(WEIGHT)
