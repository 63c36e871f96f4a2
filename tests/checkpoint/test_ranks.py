"""Several processes write one result: the bytes are those of one process, and what fails on one rank
fails on all. The ranks are forks of this process with a real process group."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import growth
import growth.checkpoint.widen as widening
from growth.checkpoint import workspace
from growth.checkpoint.ranks import Ranks
from growth.checkpoint.safetensors_writer import SafetensorsWriter
from growth.hf.paths import workspace_of
from support.crashes import Bomb
from support.grow_ranks import start_ranks

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from forked import Ended, Kept, contents, make_source, remembered_twin, start

SHARDS = ["--max-shard-size", "700KB"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("ranks")
    make_source(folder / "small")
    with remembered_twin(folder / "small"):
        yield folder


@pytest.fixture(scope="module")
def whole(home: Path) -> Kept:
    """What one process writes."""
    (home / "one").mkdir()
    arguments = ["widen", str(home / "small"), str(home / "one" / "wide"), *SHARDS]
    assert start(arguments, home / "one.log").wait() == Ended(0, "")
    written = contents(home / "one" / "wide")
    assert sum(name.endswith(".safetensors") for name in written) > 4
    return written


def widened_by(
    home: Path, target: Path, *options: str, prepare: Callable[[int], Any] = lambda rank: None
) -> list[Ended]:
    sizes = [] if "--max-shard-size" in options else SHARDS
    arguments = ["widen", str(home / "small"), str(target), *sizes, *options]
    target.parent.mkdir(exist_ok=True)
    return [child.wait() for child in start_ranks(arguments, target.parent.with_suffix(".log"), 2, prepare)]


def test_two_ranks_write_what_one_process_writes(home: Path, whole: Kept, tmp_path: Path) -> None:
    target = tmp_path / "home" / "wide"
    assert widened_by(home, target) == [Ended(0, ""), Ended(0, "")]
    assert contents(target) == whole and list(target.parent.iterdir()) == [target]


def test_a_rank_without_work(home: Path, tmp_path: Path) -> None:
    target = tmp_path / "home" / "wide"
    assert [one.code for one in widened_by(home, target, "--max-shard-size", "5GB")] == [0, 0]
    growth.widen_checkpoint(home / "small", tmp_path / "other" / "wide", width=2)
    assert contents(target) == contents(tmp_path / "other" / "wide")


def failing(error: Callable[[], BaseException], which: int, fuse: int = 3) -> Callable[[int], None]:
    def prepare(rank: int) -> None:
        if rank == which:
            SafetensorsWriter.append = Bomb(SafetensorsWriter.append, error, fuse)  # type: ignore[method-assign, assignment]

    return prepare


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("kind", ["refused", "disk"])
def test_an_error_on_one_rank_is_everybodys(
    rank: int, resume: bool, kind: str, home: Path, whole: Kept, tmp_path: Path
) -> None:
    target = tmp_path / "home" / "wide"
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    error: BaseException = growth.ProofError("injected. Please report this.") if kind == "refused" else full
    options = ["--resume"] if resume else []
    ended = widened_by(home, target, *options, prepare=failing(lambda: error, rank, 30))
    assert [one.code for one in ended] == [1, 1]
    assert ("injected" if kind == "refused" else "No space left on device") in ended[0].said
    assert len(ended[0].said.splitlines()) == 1 and ended[1].said == ""
    kept = resume and kind == "disk"
    assert workspace_of(target).exists() == kept and not target.exists()
    if kept:
        assert "finished files are in" in ended[0].said and "--resume goes on from there" in ended[0].said
        assert (
            start(["widen", str(home / "small"), str(target), *SHARDS, "--resume"], tmp_path / "log").wait().code == 0
        )
        assert contents(target) == whole and list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("step", ["write_card", "check_space", "prove_twin"])
def test_what_fails_where_rank_0_works_alone_ends_all(step: str, home: Path, tmp_path: Path) -> None:
    def prepare(rank: int) -> None:
        if rank == 0:
            setattr(widening, step, Bomb(getattr(widening, step), lambda: growth.CheckpointError("injected."), 0))

    target = tmp_path / "home" / "wide"
    ended = widened_by(home, target, prepare=prepare)
    assert [one.code for one in ended] == [1, 1] and "injected" in ended[0].said and not any(target.parent.iterdir())


def test_a_rank_that_is_killed_ends_the_others(home: Path, whole: Kept, tmp_path: Path) -> None:
    target = tmp_path / "home" / "wide"
    dying = failing(lambda: os.kill(os.getpid(), signal.SIGKILL) or OSError(), 1, 30)
    ended = widened_by(home, target, "--resume", prepare=dying)
    assert [one.code for one in ended] == [1, -signal.SIGKILL]
    assert "another rank of this growth has ended" in ended[0].said
    assert widened_by(home, target, "--resume") == [Ended(0, ""), Ended(0, "")]
    assert contents(target) == whole and list(target.parent.iterdir()) == [target]


def test_ranks_that_would_write_different_results_are_refused(home: Path, tmp_path: Path) -> None:
    def prepare(rank: int) -> None:
        if rank == 1:
            sys.argv += ["--seed", "1"]

    target = tmp_path / "home" / "wide"
    ended = widened_by(home, target, "--noise", "1", prepare=prepare)
    assert [one.code for one in ended] == [1, 1] and not any(target.parent.iterdir())
    assert "rank 1 of 2 would write another result than rank 0: seed was 0 and is 1." in ended[0].said


def test_a_source_that_one_rank_lacks_is_everybodys_error(home: Path, tmp_path: Path) -> None:
    def prepare(rank: int) -> None:
        if rank == 1:
            sys.argv[2] = str(tmp_path / "nowhere")

    target = tmp_path / "home" / "wide"
    ended = widened_by(home, target, prepare=prepare)
    assert [one.code for one in ended] == [1, 1] and "nowhere" in ended[0].said
    assert not any(target.parent.iterdir())


def test_ranks_that_read_different_sources_are_refused(home: Path, tmp_path: Path) -> None:
    """Of one training run all checkpoints have files of the same sizes."""
    other = Path(shutil.copytree(home / "small", tmp_path / "small", copy_function=shutil.copy))

    def prepare(rank: int) -> None:
        if rank == 1:
            sys.argv[2] = str(other)

    target = tmp_path / "home" / "wide"
    ended = widened_by(home, target, prepare=prepare)
    assert [one.code for one in ended] == [1, 1] and not any(target.parent.iterdir())
    assert "rank 1 of 2 would write another result than rank 0: config.json of the source" in ended[0].said


@pytest.mark.parametrize("choices", [["--seed", "7"], []])
@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_a_rank_that_outlives_the_first_does_not_write_into_what_comes_after(
    choices: list[str], resume: list[str], home: Path, tmp_path: Path
) -> None:
    target, go, waits = tmp_path / "home" / "wide", tmp_path / "go", tmp_path / "waits"
    target.parent.mkdir()

    def prepare(rank: int) -> None:
        append, calls = SafetensorsWriter.append, []

        def appending(self: SafetensorsWriter, block: Any) -> None:
            calls.append(1)
            if len(calls) == 25 and rank == 1:
                waits.touch()
                wait_for(go)
            if len(calls) == 30 and rank == 0:
                wait_for(waits)
                os.kill(os.getpid(), signal.SIGKILL)
            append(self, block)

        SafetensorsWriter.append = appending  # type: ignore[method-assign]

    arguments = ["widen", str(home / "small"), str(target), "--noise", "1", *SHARDS, *resume]
    first, second = start_ranks(arguments, tmp_path / "log", 2, prepare)
    ended = first.wait()
    assert ended.code == -signal.SIGKILL, ended
    again = start(
        [*arguments[:3], "--noise", "1", *SHARDS, *choices, *([] if choices else resume)], tmp_path / "again"
    )
    time.sleep(0.1)
    go.touch()
    assert again.wait().code == 0
    second.wait()
    record = json.loads((target / "growth.json").read_text())
    for name, digest in record["result"]["sha256"].items():
        assert hashlib.sha256((target / name).read_bytes()).hexdigest() == digest, name
    assert list(target.parent.iterdir()) == [target]


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.002)


def test_the_others_end_when_rank_0_has_cleaned_up(home: Path, tmp_path: Path) -> None:
    """torchrun ends all ranks as soon as one has ended, and rank 0 is still to say why."""
    target = tmp_path / "home" / "wide"
    target.parent.mkdir()

    def prepare(rank: int) -> None:
        failing(lambda: growth.ProofError("injected."), 1, 10)(rank)
        remove = workspace._remove

        def slowly(path: Path) -> None:
            time.sleep(0.5)
            remove(path)

        workspace._remove = slowly

    children = start_ranks(["widen", str(home / "small"), str(target), *SHARDS], tmp_path / "log", 2, prepare)
    assert children[1].wait().code == 1 and not workspace_of(target).exists()
    assert "injected" in children[0].wait().said


def test_a_rank_that_waits_for_the_others_can_be_stopped(home: Path, tmp_path: Path) -> None:
    target = tmp_path / "home" / "wide"
    alone = start_ranks(
        ["widen", str(home / "small"), str(target)], tmp_path / "log", 2, lambda rank: rank and os._exit(3)
    )
    assert alone[1].wait().code == 3
    time.sleep(1)
    os.kill(alone[0].pid, signal.SIGTERM)
    assert alone[0].wait().code == -signal.SIGTERM


def test_a_process_outside_of_the_group_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.get_rank", lambda group: -1)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda group: -1)
    with pytest.raises(growth.IllegalGrowthError, match="is not in the process group"):
        Ranks(object())  # type: ignore[arg-type]


def test_a_division_that_leaves_a_shard_out_is_found(
    home: Path, whole: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Ranks, "share", lambda self, items: items[self.rank + 1 :: self.count] if self.rank else items[::2]
    )
    target = tmp_path / "home" / "wide"
    ended = widened_by(home, target)
    assert [one.code for one in ended] != [0, 0] or contents(target) != whole


@pytest.mark.slow
def test_torchrun_itself(home: Path, tmp_path: Path) -> None:
    target, other = tmp_path / "home" / "wide", tmp_path / "other" / "wide"
    program = str(Path(sys.executable).with_name("grow"))
    choices = ["--width", "1.5", "--noise", "1", *SHARDS]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, program, "widen", str(home / "small"), str(target), *choices],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("written:") == 1
    subprocess.run([program, "widen", str(home / "small"), str(other), *choices], check=True, timeout=300)
    assert contents(target) == contents(other)
