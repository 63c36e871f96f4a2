"""Several processes write one result: the bytes are those of one process, and what fails on one rank
fails on all. The ranks are forks of this process with a real process group."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import growth
import growth.checkpoint.widen as widening
from growth.checkpoint.ranks import Ranks
from growth.checkpoint.safetensors_writer import SafetensorsWriter
from growth.hf.paths import workspace_of
from support.crashes import Bomb
from support.ranks import start_ranks

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
    assert "another rank of this growth has ended or cannot be reached" in ended[0].said
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
