"""A source that changes while it is read gives no result that is part old, part new."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import growth
from growth import CheckpointError
from growth.hf.source_files import SourceFiles
from support.refusals import Sources, check_message, snapshot, sources

__all__ = ["sources"]

WEIGHTS = "model.safetensors"


def replaced(folder: Path) -> None:
    """What an atomic saver does: another file under the same name."""
    state = {name: tensor + 1 for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(state, folder / "next", metadata={"format": "pt"})
    os.replace(folder / "next", folder / WEIGHTS)


def scribbled(folder: Path) -> None:
    with (folder / WEIGHTS).open("r+b") as file:
        file.seek(-400, os.SEEK_END)
        file.write(b"\x3f" * 400)


def scribbled_and_put_back(folder: Path) -> None:
    """Written to, and the time of modification put back, as ``cp -p`` and archives do."""
    before = (folder / WEIGHTS).stat()
    scribbled(folder)
    os.utime(folder / WEIGHTS, ns=(before.st_atime_ns, before.st_mtime_ns))


def touched(folder: Path) -> None:
    os.utime(folder / WEIGHTS)


def longer(folder: Path) -> None:
    with (folder / WEIGHTS).open("ab") as file:
        file.write(b"\0")


def gone(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def config_replaced(folder: Path) -> None:
    shutil.copyfile(folder / "config.json", folder / "next")
    os.replace(folder / "next", folder / "config.json")


CHANGES: list[tuple[Callable[[Path], None], str]] = [
    (replaced, "another file took its place"),
    (scribbled, "it was written to"),
    (scribbled_and_put_back, "it was written to and its time put back"),
    (touched, "it was written to"),
    (longer, "bytes"),
    (gone, ""),
    (config_replaced, "another file took its place"),
]


def widen_while(change: Callable[[Path], None], source: Path, target: Path) -> None:
    """Widen, and change the source when half is written."""
    done: list[int] = []

    def progress(written: int, size: int, name: str) -> None:
        if 2 * written > size and not done:
            done.append(written)
            change(source)

    growth.widen_checkpoint(source, target, progress=progress)


@pytest.mark.parametrize(("change", "how"), CHANGES, ids=[change.__name__ for change, _ in CHANGES])
def test_a_source_that_changes_is_refused(
    change: Callable[[Path], None], how: str, sources: Sources, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(sources["llama"], tmp_path / "source"))
    (tmp_path / "to").mkdir()
    with pytest.raises(CheckpointError) as caught:
        widen_while(change, source, tmp_path / "to" / "wide")
    name = "config.json" if change is config_replaced else WEIGHTS
    check_message(str(caught.value), (str(source / name), how))
    assert not snapshot(tmp_path / "to")


def test_without_the_comparison_the_result_is_part_old_part_new(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(shutil.copytree(sources["llama"], tmp_path / "source"))
    monkeypatch.setattr(SourceFiles, "_compare", lambda self, path, status: None)
    widen_while(replaced, source, tmp_path / "wide")


def test_a_source_that_changes_between_two_runs_is_not_compared(sources: Sources, tmp_path: Path) -> None:
    source = Path(shutil.copytree(sources["llama"], tmp_path / "source"))
    wide = growth.widen_checkpoint(source, tmp_path / "wide").path

    def step(what: str) -> None:
        if what == "source in float32":
            replaced(source)

    with pytest.raises(CheckpointError, match="changed while it was read"):
        growth.check_equivalence(source, wide, tokens=32, device="cpu", dtype="float32", step=step)


def test_every_file_that_was_noted_is_compared(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    files = SourceFiles(tmp_path)
    for name in "ab":
        files.note(tmp_path / name)
    files.check_unchanged()
    with files.open(tmp_path / "a") as file:
        assert file.read() == b"a"
    (tmp_path / "b").write_text("bb")
    for seen in (files.check_unchanged, lambda: files.note(tmp_path / "b")):
        with pytest.raises(CheckpointError, match=r"b changed while it was read \(it went from 1 to 2 bytes\)"):
            seen()
    with pytest.raises(CheckpointError, match="c cannot be read: No such file"):
        files.note(tmp_path / "c")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="is not a regular file"):
        files.note(tmp_path / "pipe")
