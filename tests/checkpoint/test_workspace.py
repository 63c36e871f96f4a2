"""The folder beside a destination belongs to one process at a time; what a dead one left is put
right, and what may belong to a living one is left alone."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path

import pytest

import growth
from growth.checkpoint import workspace as module
from growth.checkpoint import workspace_lock as lock
from growth.checkpoint.destination import appearing, check_target
from growth.checkpoint.workspace import claimed, recover
from growth.hf.folders import check_source
from growth.hf.paths import workspace_of
from support.crashes import DISK_FULL, Bomb
from support.refusals import check_message, snapshot

HERE = {"pid": 2**22 + 1, "host": socket.gethostname(), "boot": "this"}
"""A process of this machine that does not exist: numbers go up to 2**22."""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "wide"


def left(target: Path, record: dict[str, object], *folders: str) -> Path:
    """What a killed process leaves."""
    folder = workspace_of(target)
    for name in folders:
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(name)
    folder.mkdir(exist_ok=True)
    (folder / "writer.json").write_text(json.dumps(record) if record else "")
    return folder


def refusal(target: Path) -> str:
    before = snapshot(target.parent)
    with pytest.raises(growth.CheckpointError) as caught:
        check_target(target, overwrite=True)
    check_message(str(caught.value), ())
    assert snapshot(target.parent) == before
    return str(caught.value)


@pytest.mark.parametrize(
    "record", [{}, HERE, {**HERE, "host": "renamed", "boot": "same"}, {**HERE, "boot": "earlier"}]
)
def test_what_a_dead_process_of_this_machine_left_is_named_and_removed(
    record: dict[str, object], target: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lock, "_boot", lambda: "same")
    folder = left(target, record, "new")
    recover(target)
    assert list(target.parent.iterdir()) == []
    assert f"removed {folder} (4.1 kB), which an interrupted growth into {target} left" in caplog.text


def test_the_old_model_comes_back(target: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = left(target, HERE, "new", "old")
    with pytest.raises(growth.CheckpointError) as caught:
        check_source(target)
    check_message(str(caught.value), (f"the model that it was to replace is in {folder / 'old'}",))
    with pytest.raises(growth.CheckpointError, match="exists and was kept as it is"):
        check_target(target, overwrite=False)
    assert (target / "config.json").read_text() == "old" and list(target.parent.iterdir()) == [target]
    assert f"the model of {target} is back: an interrupted growth with --overwrite had moved it" in caplog.text


def test_the_old_model_goes_once_the_new_one_is_there(target: Path) -> None:
    left(target, HERE, "old")
    target.mkdir()
    (target / "config.json").write_text("new")
    with pytest.raises(growth.CheckpointError, match="exists and was kept as it is"):
        check_target(target, overwrite=False)
    assert (target / "config.json").read_text() == "new" and list(target.parent.iterdir()) == [target]


def test_what_another_machine_left_is_named_and_kept(target: Path) -> None:
    folder = left(target, {"pid": 7, "host": "elsewhere", "boot": "that"}, "new")
    said = refusal(target)
    assert f"{folder} is the workspace of process 7 on elsewhere, and it cannot be told from here" in said


def test_machines_without_a_number_of_their_start_are_told_by_name(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_boot", lambda: "")
    left(target, {"pid": 7, "host": "elsewhere", "boot": ""}, "new")
    assert "cannot be told from here" in refusal(target)


def test_two_writers_meet(target: Path) -> None:
    with appearing(target, overwrite=False) as folder:
        (folder / "config.json").write_text("first")
        assert f"process {os.getpid()} on {socket.gethostname()} is writing {target} at this moment" in refusal(target)
        with pytest.raises(growth.CheckpointError, match="at this moment"), appearing(target, overwrite=True):
            raise AssertionError("two writers work in one place")
    assert (target / "config.json").read_text() == "first" and list(target.parent.iterdir()) == [target]


def test_a_workspace_that_was_removed_while_it_was_opened_is_made_anew(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner finishes between our opening of the file and our lock on it."""
    take, removed = lock._try_lock, []

    def late(descriptor: int) -> str:
        if not removed:
            removed.append(workspace_of(target))
            shutil.rmtree(removed[0])
        return take(descriptor)

    monkeypatch.setattr(lock, "_try_lock", late)
    with claimed(target) as folder:
        assert removed == [folder] and (folder / "writer.json").exists()
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("record", "refused"),
    [
        (HERE, False),
        ({**HERE, "pid": os.getpid()}, True),
        ({**HERE, "host": "elsewhere"}, True),
        ({}, True),
    ],
)
def test_where_there_are_no_locks_the_process_is_looked_for(
    record: dict[str, object], refused: bool, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_try_lock", lambda descriptor: lock._UNKNOWN)
    left(target, record, "new")
    if refused:
        assert "cannot be told from here" in refusal(target)
    else:
        recover(target)
        assert list(target.parent.iterdir()) == []
        with appearing(target, overwrite=False) as folder:  # the first to come needs no lock
            (folder / "config.json").write_text("{}")


@pytest.mark.parametrize("what", ["file", "link", "foreign", "other user"])
def test_what_growth_has_not_made_is_kept(what: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = workspace_of(target)
    if what == "file":
        folder.write_text("mine")
    elif what == "link":
        (target.parent / "mine").mkdir()
        folder.symlink_to(target.parent / "mine")
    else:
        left(target, HERE, "new")
    if what == "foreign":
        (folder / "thesis.txt").write_text("mine")
    if what == "other user":
        monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    said = refusal(target)
    assert str(folder) in said and ("in the way" in said or "belongs to another user" in said)


def test_what_cannot_be_removed_is_named(
    target: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(path: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    with monkeypatch.context() as patch, pytest.raises(growth.CheckpointError) as caught:
        patch.setattr(module, "_remove", failing)
        with appearing(target, overwrite=False):
            raise OSError(28, "No space left on device")
    folder = workspace_of(target)
    check_message(str(caught.value), (f"{folder} could not be removed, and the next growth into {target} removes it",))
    assert f"{folder} could not be removed" in caplog.text
    recover(target)
    assert list(target.parent.iterdir()) == []


def test_an_empty_workspace_that_stays_is_named(
    target: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch, appearing(target, overwrite=False) as folder:
        (folder / "config.json").write_text("{}")
        patch.setattr(os, "rmdir", Bomb(os.rmdir, lambda: OSError(5, "Input/output error"), 0))
    assert f"{workspace_of(target)} could not be removed, and the next growth into {target} removes it" in caplog.text
    recover(target)
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("step", ["open", "write"])
def test_a_workspace_that_cannot_be_signed_does_not_stay(
    step: str, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(growth.CheckpointError, match="No space left"):
        patch.setattr(os, step, Bomb(getattr(os, step), DISK_FULL.raises, 0))
        with appearing(target, overwrite=False):
            raise AssertionError("it began")
    assert list(target.parent.iterdir()) == []
