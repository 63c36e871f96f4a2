"""What a growth that is killed or told to stop leaves, and what the next one into the same place makes
of it. The growths are forks of this process that run the command line, with real signals."""

from __future__ import annotations

import fcntl
import os
import random
import re
import shutil
import signal
import socket
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import growth
from growth.checkpoint import workspace
from growth.cli import signals
from growth.hf.paths import workspace_of
from support.command import Grow, grow
from support.frozen import Frozen

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import kills
from forked import Ended, contents, remembered_twin, start
from kills import Stage

__all__ = ["grow"]  # a fixture
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "stopped by SIGTERM", signal.SIGHUP: "stopped by SIGHUP"}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    home = tmp_path_factory.mktemp("kills")
    made = kills.set_stage(home)
    with remembered_twin(home / "small"):
        yield made


@pytest.mark.parametrize("where", ["weights", "config"])
def test_a_killed_growth_leaves_nothing_that_looks_like_a_model(where: str, stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    frozen = Frozen(stage, tmp_path / "home", where)
    assert frozen.end(signal.SIGKILL).code == -signal.SIGKILL
    left = contents(tmp_path / "home")
    assert any(name.endswith(".safetensors") for name in left), "it was killed before it wrote anything"
    assert any(name.endswith("growth.json") for name in left) == (where == "config")
    assert ".wide.growing/new/config.json" not in left
    assert not frozen.target.exists()
    next_one = start(["widen", str(stage.home / "small"), str(frozen.target)], frozen.log).wait()
    assert next_one.code == 0 and contents(frozen.target) == stage.whole
    said = (
        rf"grow: removed {workspace_of(frozen.target)} \([\d.]+ MB\), which an interrupted growth into .*wide left\.\n"
    )
    assert re.fullmatch(said, next_one.said)
    assert list((tmp_path / "home").iterdir()) == [frozen.target]


@pytest.mark.parametrize("how", WORDS)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_growth_that_is_told_to_stop_leaves_nothing(
    how: signal.Signals, overwrite: bool, stage: Stage, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    if overwrite:
        shutil.copytree(stage.old, home / "wide")
    before = contents(home)
    ended = Frozen(stage, home, "weights", *(["--overwrite"] if overwrite else [])).end(how)
    assert ended.code == 128 + how
    assert ended.said.split("\n") == ["", f"grow: {WORDS[how]}; nothing was left behind.", ""]
    assert contents(home) == before


def test_a_growth_that_is_told_to_stop_too_late_says_so(stage: Stage, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(stage.old, home / "wide")
    ended = Frozen(stage, home, "placed", "--overwrite").end(signal.SIGTERM)
    assert ended.code == 143
    assert f"grow: stopped by SIGTERM; {home / 'wide'} is complete and stays." in ended.said
    assert contents(home / "wide") == stage.whole and list(home.iterdir()) == [home / "wide"]


def test_a_signal_after_the_command_is_done_stops_nothing(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()

    def late() -> None:
        leave = os._exit

        def leaving(code: int) -> None:
            for number in WORDS:
                os.kill(os.getpid(), number)
            leave(code)

        os._exit = leaving  # type: ignore[assignment]

    arguments = ["widen", str(stage.home / "small"), str(tmp_path / "home" / "wide")]
    ended = start(arguments, tmp_path / "log", late).wait()
    assert (ended.code, ended.said) == (0, "")


def test_signals_are_heard_again_where_the_process_goes_on(grow: Grow, monkeypatch: pytest.MonkeyPatch) -> None:
    assert grow("--version").code == 0
    os.kill(os.getpid(), signal.SIGTERM)  # deaf
    monkeypatch.setattr(signals, "_deaf_until", 0.0)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_growth_under_nohup_goes_on(stage: Stage, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()

    def nohup() -> None:
        for number in (signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    frozen = Frozen(stage, home, "weights", prepare=nohup)
    os.kill(frozen.child.pid, signal.SIGHUP)
    os.kill(frozen.child.pid, signal.SIGINT)
    assert frozen.end().code == 0 and contents(frozen.target) == stage.whole


def test_a_terminal_that_goes_away_ends_a_growth(stage: Stage, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    ours, its = os.openpty()

    def in_terminal() -> None:
        os.close(ours)
        os.setsid()
        fcntl.ioctl(its, termios.TIOCSCTTY, 0)
        os.dup2(its, 2)
        os.close(its)

    frozen = Frozen(stage, home, "weights", prepare=in_terminal)
    os.close(its)
    os.close(ours)
    assert frozen.child.wait().code == 128 + signal.SIGHUP
    assert list(home.iterdir()) == []


def test_killed_between_two_renames_the_old_model_comes_back(stage: Stage, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(stage.old, home / "wide")
    frozen = Frozen(stage, home, "between", "--overwrite")
    frozen.end(signal.SIGKILL)
    assert not frozen.target.exists() and contents(workspace_of(frozen.target) / "old") == contents(stage.old)
    for command in (["plan", str(frozen.target)], ["verify", str(frozen.target), str(stage.old)]):
        ended = start(command, frozen.log).wait()
        assert ended.code == 1 and f"is in {workspace_of(frozen.target) / 'old'}. Move it back" in ended.said
    ended = start(["widen", str(stage.home / "small"), str(frozen.target)], frozen.log).wait()
    assert ended.code == 1 and f"the model of {frozen.target} is back" in ended.said
    assert contents(frozen.target) == contents(stage.old) and list(home.iterdir()) == [frozen.target]


def test_of_two_writers_one_is_refused(stage: Stage, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    frozen = Frozen(stage, home, "weights")
    with pytest.raises(growth.CheckpointError) as caught:
        growth.widen_checkpoint(stage.home / "small", frozen.target)
    said = f"process {frozen.child.pid} on {socket.gethostname()} is writing {frozen.target} at this moment"
    assert said in str(caught.value)
    assert frozen.end().code == 0 and contents(frozen.target) == stage.whole
    assert list(home.iterdir()) == [frozen.target]


def test_writers_that_start_together(stage: Stage, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    arguments = ["widen", str(stage.home / "small"), str(home / "wide")]
    ended = [child.wait() for child in [start(arguments, tmp_path / f"{n}.log") for n in range(3)]]
    assert sorted(one.code for one in ended) == [0, 1, 1]
    assert all("at this moment" in one.said or "exists and was kept" in one.said for one in ended if one.code)
    assert contents(home / "wide") == stage.whole and list(home.iterdir()) == [home / "wide"]


def some_kills(stage: Stage, first: int, number: int) -> list[str]:
    draw = random.Random(first)
    return [
        fault
        for n in range(first, first + number)
        for fault in kills.kill_once(stage, n, kills.SIGNALS[n % 3], n // 3 % 2 == 1, draw).faults
    ]


@pytest.mark.slow
def test_kills_at_random_moments(stage: Stage) -> None:
    assert some_kills(stage, 0, 6) == []


@pytest.mark.slow
def test_many_kills_at_random_moments(stage: Stage) -> None:
    assert some_kills(stage, 100, 60) == []


def test_a_process_that_is_terminated(stage: Stage) -> None:
    assert kills.kill_a_process(stage, 0, signal.SIGTERM, True, random.Random(0)).faults == []


MUTANTS: dict[str, tuple[signal.Signals, Any, str, Any, str]] = {
    "leaves what it was writing": (
        signal.SIGTERM,
        workspace,
        "_remove",
        lambda path: None,
        "a leftover after SIGTERM",
    ),
    "does not look for leftovers": (signal.SIGKILL, workspace, "_settle", lambda *_: "", "the next growth failed"),
    "removes leftovers and does not say so": (signal.SIGKILL, workspace._log, "warning", print, "did not name"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_kills_find_a_growth_that(mutant: str, stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    how, owner, name, wrong, said = MUTANTS[mutant]
    monkeypatch.setattr(owner, name, wrong)
    home = tmp_path / "home"
    home.mkdir()
    frozen = Frozen(stage, home, "weights")
    ended = frozen.end(how)

    def again(arguments: list[str]) -> Ended:
        return start(arguments, frozen.log).wait()

    faults = kills.look(stage, frozen.target, how, False, ended, again).faults
    assert any(said in fault for fault in faults), faults


def test_kills_find_a_destination_that_is_half_written(stage: Stage, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(stage.home / "whole-0" / "wide", home / "wide")
    (home / "wide" / "config.json").unlink()

    def again(arguments: list[str]) -> Ended:
        return start(arguments, tmp_path / "log").wait()

    outcome = kills.look(stage, home / "wide", signal.SIGKILL, True, Ended(-9, ""), again)
    assert outcome.destination == "BROKEN" and "destination is neither" in outcome.faults[0]
