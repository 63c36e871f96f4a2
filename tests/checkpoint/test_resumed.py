"""A growth that is interrupted and goes on writes what an unbroken one writes, to the last byte."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import growth
import growth.checkpoint.widen as widening
from growth.checkpoint import shards, unfinished, workspace_lock
from growth.checkpoint.safetensors_writer import SafetensorsWriter
from growth.hf.paths import workspace_of
from support.crashes import Bomb
from support.frozen import Frozen
from support.refusals import check_message, snapshot

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import kills
from forked import Ended, Kept, contents, make_source, remembered_twin, start
from kills import Stage

CHOICES = {"width": 2, "noise": 1, "max_shard_size": "700KB"}
OPTIONS = ["--noise", "1", "--max-shard-size", "700KB"]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A source, and what an unbroken growth makes of it."""
    home = tmp_path_factory.mktemp("resumed")
    make_source(home / "small")
    with remembered_twin(home / "small"):
        growth.widen_checkpoint(home / "small", home / "whole" / "wide", **CHOICES)
        yield Stage(home, home / "small", contents(home / "whole" / "wide"), 1.0, 0.5)


def grow(stage: Stage, target: Path, *options: str) -> Ended:
    target.parent.mkdir(exist_ok=True)
    own = OPTIONS[:2] if "--max-shard-size" in options else OPTIONS
    arguments = ["widen", str(stage.home / "small"), str(target), *own, *options]
    return start(arguments, target.parent.with_suffix(".log")).wait()


def notes(target: Path) -> list[str]:
    return sorted(path.name for path in (workspace_of(target) / "finished").glob("model-*"))


@pytest.fixture
def killed(stage: Stage, tmp_path: Path) -> Path:
    """The destination of a growth that was killed when it had finished some files."""
    (tmp_path / "home").mkdir()
    frozen = Frozen(stage, tmp_path / "home", "weights", *OPTIONS, "--jobs", "1", blocks=60)
    frozen.end(signal.SIGKILL)
    assert 1 < len(notes(frozen.target)) < 12
    return frozen.target


def test_the_rest_is_done(stage: Stage, killed: Path) -> None:
    new = workspace_of(killed) / "new"
    before = {name[: -len(".json")]: (new / name[: -len(".json")]).stat() for name in notes(killed)}
    assert len(list(new.glob("*.safetensors"))) == len(before) + 1, "no file was cut short"
    assert grow(stage, killed, "--resume") == Ended(0, "")
    assert contents(killed) == stage.whole and list(killed.parent.iterdir()) == [killed]
    for name, old in before.items():
        now = (killed / name).stat()
        assert (now.st_ino, now.st_mtime_ns) == (old.st_ino, old.st_mtime_ns), f"{name} was written anew"


def test_without_the_option_it_begins_anew(stage: Stage, killed: Path) -> None:
    ended = grow(stage, killed)
    assert ended.code == 0 and "which an interrupted growth into" in ended.said
    assert contents(killed) == stage.whole and list(killed.parent.iterdir()) == [killed]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--seed", "7"], "seed was 0 and is 7"),
        (["--width", "3"], "width was 2 and is 3"),
        (["--max-shard-size", "1MB"], "the weights are divided into files in another way"),
        (["--allow-nonfinite"], "allow_nonfinite was False and is True"),
        (["--dtype", "bfloat16"], "the weights are divided into files in another way"),
    ],
)
def test_another_growth_is_refused_and_loses_nothing(
    options: list[str], said: str, stage: Stage, killed: Path, tmp_path: Path
) -> None:
    held = {name: value for name, value in snapshot(killed.parent).items() if not name.endswith("writer.json")}
    ended = grow(stage, killed, *options, "--resume")
    check_message(ended.said.strip().removeprefix("grow: "), (said, str(workspace_of(killed))))
    assert ended.code == 1
    after = {name: value for name, value in snapshot(killed.parent).items() if not name.endswith("writer.json")}
    assert after == held
    assert grow(stage, killed, "--resume").code == 0 and contents(killed) == stage.whole


def test_a_source_that_changed_is_refused(stage: Stage, killed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "small"
    shutil.copytree(stage.home / "small", copy)
    with pytest.raises(growth.CheckpointError) as caught:
        growth.widen_checkpoint(copy, killed, **CHOICES, resume=True)
    check_message(str(caught.value), ("config.json of the source is another file, or was written to",))
    assert notes(killed)


def test_other_versions_are_refused(stage: Stage, killed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished, "__version__", "9")
    with pytest.raises(growth.CheckpointError, match=r"growth was '.*' and is '9'"):
        growth.widen_checkpoint(stage.home / "small", killed, **CHOICES, resume=True)


def test_a_finished_file_that_changed_is_written_anew(stage: Stage, killed: Path) -> None:
    file = workspace_of(killed) / "new" / notes(killed)[0].removesuffix(".json")
    with file.open("r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        last = opened.read(1)
        opened.seek(-1, os.SEEK_END)
        opened.write(bytes([last[0] ^ 1]))
    ended = grow(stage, killed, "--resume")
    assert ended.code == 0 and f"{file} is not what was written, and is written anew" in ended.said
    assert contents(killed) == stage.whole


@pytest.mark.parametrize("damage", ["cut note", "cut file", "no start"])
def test_damaged_leftovers(damage: str, stage: Stage, killed: Path) -> None:
    note = workspace_of(killed) / "finished" / notes(killed)[0]
    file = workspace_of(killed) / "new" / note.name.removesuffix(".json")
    if damage == "cut note":
        note.write_text(note.read_text()[:20])
    elif damage == "cut file":
        os.truncate(file, 100)
    else:
        (note.parent / unfinished.STARTED).unlink()
    ended = grow(stage, killed, "--resume")
    assert ended.code == 0 and contents(killed) == stage.whole and list(killed.parent.iterdir()) == [killed]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_growth_that_is_told_to_stop_keeps_what_is_finished(
    how: signal.Signals, stage: Stage, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    frozen = Frozen(stage, tmp_path / "home", "weights", *OPTIONS, "--resume", "--jobs", "1", blocks=60)
    ended = frozen.end(how)
    assert ended.code == 128 + how and notes(frozen.target)
    said = f"{len(notes(frozen.target))} finished files are in {workspace_of(frozen.target)}"
    assert f"{said}, and the same growth with --resume goes on from there." in ended.said
    assert not frozen.target.exists()
    assert grow(stage, frozen.target, "--resume").code == 0 and contents(frozen.target) == stage.whole


def test_a_growth_that_finished_nothing_keeps_nothing(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    frozen = Frozen(stage, tmp_path / "home", "weights", *OPTIONS, "--resume", "--jobs", "1", blocks=1)
    assert "nothing was left behind" in frozen.end(signal.SIGTERM).said
    assert list(frozen.target.parent.iterdir()) == []


def test_a_full_disk_keeps_what_is_finished(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "home" / "wide"
    with monkeypatch.context() as patch, pytest.raises(growth.CheckpointError) as caught:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        patch.setattr(SafetensorsWriter, "append", Bomb(SafetensorsWriter.append, lambda: full, 60))
        growth.widen_checkpoint(stage.home / "small", target, **CHOICES, resume=True, jobs=1)
    assert "finished files are in" in str(caught.value) and "free some space and try again" in str(caught.value)
    growth.widen_checkpoint(stage.home / "small", target, **CHOICES, resume=True)
    assert contents(target) == stage.whole


@pytest.mark.parametrize("step", ["write_card", "copy_companions"])
def test_a_refusal_that_says_nothing_about_the_weights_keeps_them(
    step: str, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "home" / "wide"
    with monkeypatch.context() as patch, pytest.raises(growth.CheckpointError, match="injected"):
        patch.setattr(widening, step, Bomb(getattr(widening, step), lambda: growth.CheckpointError("injected."), 0))
        growth.widen_checkpoint(stage.home / "small", target, **CHOICES, resume=True)
    assert "finished files are in" in caplog.text and len(notes(target)) > 12
    growth.widen_checkpoint(stage.home / "small", target, **CHOICES, resume=True)
    assert contents(target) == stage.whole


def test_what_is_finished_needs_no_more_space(
    stage: Stage, killed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(
        (stage.home / "whole" / "wide" / name).stat().st_size for name in stage.whole if name.startswith("model-")
    )
    held = sum(path.stat().st_size for path in (workspace_of(killed) / "new").iterdir())
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=size - held + 50_000_000))
    with pytest.raises(growth.CheckpointError, match="not enough disk space"):
        growth.widen_checkpoint(stage.home / "small", tmp_path / "other", **CHOICES, resume=True)
    growth.widen_checkpoint(stage.home / "small", killed, **CHOICES, resume=True)
    assert contents(killed) == stage.whole


def test_another_machine_goes_on_with_what_was_stopped_on_purpose(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    frozen = Frozen(stage, tmp_path / "home", "weights", *OPTIONS, "--resume", "--jobs", "1", blocks=60)
    frozen.end(signal.SIGTERM)
    monkeypatch.setattr(workspace_lock, "_boot", lambda: "another")
    monkeypatch.setattr(workspace_lock.socket, "gethostname", lambda: "another")
    growth.widen_checkpoint(stage.home / "small", frozen.target, **CHOICES, resume=True)
    assert contents(frozen.target) == stage.whole


def test_a_growth_that_is_not_exact_keeps_nothing(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "home" / "wide"
    wrong = growth.ProofError("injected. Please report this.")
    monkeypatch.setattr(SafetensorsWriter, "append", Bomb(SafetensorsWriter.append, lambda: wrong, 60))
    with pytest.raises(growth.ProofError):
        growth.widen_checkpoint(stage.home / "small", target, **CHOICES, resume=True, jobs=1)
    assert not target.parent.exists()


def test_a_model_that_is_overwritten_stays_until_then(stage: Stage, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(stage.home / "small", home / "wide")
    options = [*OPTIONS, "--overwrite", "--jobs", "1"]
    frozen = Frozen(stage, home, "weights", *options, blocks=60)
    frozen.end(signal.SIGKILL)
    assert contents(frozen.target) == contents(stage.home / "small")
    assert grow(stage, frozen.target, "--overwrite", "--resume").code == 0 and contents(frozen.target) == stage.whole


def kill_and_resume(stage: Stage, home: Path, number: int, draw: random.Random) -> tuple[int, Kept]:
    """Kill a growth several times at random moments, and let it end. Returns how many files the kills
    left finished, and the result."""
    target, found = home / str(number) / "wide", 0
    target.parent.mkdir()
    arguments = ["widen", str(stage.home / "small"), str(target), *OPTIONS, "--resume", "--jobs", str(1 + number % 3)]
    for _ in range(3):
        child = start(arguments, home / "log")
        kills._await_workspace(target)
        kills.time.sleep(draw.uniform(0, 0.6))
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        found += len(notes(target))
        if target.exists():  # killed when all was done, but for removing the workspace
            return found, contents(target)
    ended = start(arguments, home / "log").wait()
    assert ended.code == 0, ended.said
    assert list(target.parent.iterdir()) == [target]
    return found, contents(target)


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_kills_at_random_moments(rounds: int, stage: Stage, tmp_path: Path) -> None:
    draw, found = random.Random(rounds), 0
    for number in range(rounds):
        finished, result = kill_and_resume(stage, tmp_path, number, draw)
        found += finished
        assert result == stage.whole, number
    assert found


MUTANTS: dict[str, tuple[Any, str, Any]] = {
    "takes what is not finished": (
        unfinished.Unfinished,
        "begin",
        lambda self, parts, new: {
            part.file: shards.Done(part.file, 0, "", growth.weights.fold.Fold())
            for part in parts
            if (new / part.file).exists()
        },
    ),
    "does not look at the content": (shards.Done, "is_in", lambda self, folder: True),
}


def test_mutants_are_found(stage: Stage, killed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With both faults a file that was cut short ends up in the result."""
    for owner, name, wrong in MUTANTS.values():
        monkeypatch.setattr(owner, name, wrong)
    ended = grow(stage, killed, "--resume")
    assert ended.code != 0 or contents(killed) != stage.whole


def test_a_note_says_what_was_written(stage: Stage, killed: Path) -> None:
    note = json.loads((workspace_of(killed) / "finished" / notes(killed)[0]).read_text())
    assert note["sha256"] == stage.whole[note["file"]] and note["fold"]["tensors"] > 0
