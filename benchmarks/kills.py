"""Kills: ``grow widen`` ended by SIGTERM, SIGINT and SIGKILL at random moments, into a new folder and
with ``--overwrite``.

    python benchmarks/kills.py [--kills 300] [--processes 24] [--seed 0] [--folder DIR]

After each kill the destination must be what it was before, or the whole new model, byte for byte;
beside it there may be nothing but the one workspace. Then the same command runs again: it must name
what the killed one left, remove it, and leave the whole new model and nothing else. SIGTERM and
SIGINT must leave nothing themselves and exit with 143 and 130.

The children are forks of a process that has imported everything, so that a kill costs a second and
not ten; each runs the command line from its entry point on. The twin, which comes before anything
is written, is made once and remembered, and half of the moments are drawn from the time after the
workspace appeared. ``--processes`` kills as many whole ``python -m growth`` besides."""

from __future__ import annotations

import argparse
import collections
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from forked import Ended, Kept, contents, make_source, remembered_twin, start

from growth.hf.paths import workspace_of

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -9}


@dataclass
class Stage:
    """A folder in which growths are killed.

    Args:
        home: the folder. ``small`` in it is the source; ``home/N/wide`` the destinations.
        old: a model to overwrite.
        whole: what a destination holds that a growth has finished.
        seconds: that a whole growth takes.
        writing: of which after the workspace appeared.
    """

    home: Path
    old: Path
    whole: Kept
    seconds: float
    writing: float


def set_stage(home: Path) -> Stage:
    """Make the source and the model to overwrite, and measure a growth that nothing disturbs."""
    small = home / "small"
    make_source(small)
    runs = []
    with remembered_twin(small):
        for number in range(3):
            target = home / f"whole-{number}" / "wide"
            target.parent.mkdir()
            begun = time.perf_counter()
            child = start(["widen", str(small), str(target)], home / "log")
            writes = _await_workspace(target)
            ended = child.wait()
            assert ended.code == 0, ended.said
            runs.append((time.perf_counter() - begun, time.perf_counter() - writes))
    old = home / "old"
    shutil.copytree(small, old)
    seconds, writing = (statistics.median(values) for values in zip(*runs, strict=True))
    assert contents(home / "whole-0" / "wide") == contents(home / "whole-1" / "wide")
    return Stage(home, old, contents(home / "whole-0" / "wide"), seconds, writing)


def _await_workspace(target: Path) -> float:
    """When the workspace of a destination appeared; the time now if it does not within ten seconds."""
    workspace, end = workspace_of(target), time.perf_counter() + 10
    while not workspace.exists() and time.perf_counter() < end:
        time.sleep(0.0005)
    return time.perf_counter()


@dataclass
class Outcome:
    """What a kill led to.

    Args:
        destination: ``absent``, ``old``, ``new`` or ``BROKEN``.
        leftover: whether the workspace was left.
        faults: what should not have happened.
    """

    destination: str
    leftover: bool
    faults: list[str] = field(default_factory=list)


def kill_once(stage: Stage, number: int, how: signal.Signals, overwrite: bool, draw: random.Random) -> Outcome:
    """Start a growth, kill it at a random moment, look, and run it again."""
    home, log = stage.home / str(number), stage.home / f"{number}.log"
    target = home / "wide"
    home.mkdir()
    if overwrite:
        shutil.copytree(stage.old, target)
    arguments = ["widen", str(stage.home / "small"), str(target), *(["--overwrite"] if overwrite else [])]
    child = start(arguments, log)
    if draw.random() < 0.5:
        _await_workspace(target)
        time.sleep(draw.uniform(0, stage.writing))
    else:
        time.sleep(draw.uniform(0, stage.seconds))
    os.kill(child.pid, how)
    return look(stage, target, how, overwrite, child.wait(), lambda more: start(more, log).wait())


def look(
    stage: Stage,
    target: Path,
    how: signal.Signals,
    overwrite: bool,
    ended: Ended,
    again: Callable[[list[str]], Ended],
) -> Outcome:
    """What a killed growth left, and what the next one into the same place makes of it."""
    workspace, found = workspace_of(target), contents(target)
    states: dict[str, Kept] = {"old": contents(stage.old)} if overwrite else {"absent": {}}
    states["new"] = stage.whole
    states |= {"absent": {}} if overwrite and (workspace / "old").is_dir() else {}
    outcome = Outcome(next((name for name, state in states.items() if found == state), "BROKEN"), workspace.exists())
    if outcome.destination == "BROKEN":
        outcome.faults.append(f"destination is neither: {sorted(found)}")
    if foreign := [path.name for path in target.parent.iterdir() if path not in (target, workspace)]:
        outcome.faults.append(f"unknown leftovers: {foreign}")
    apart = ended.code == -how and not outcome.leftover  # before the command began, or after it was done
    if not (ended.code in (0, CODES[how]) or apart) or "Traceback" in ended.said:
        outcome.faults.append(f"exit code {ended.code}: {ended.said}")
    if how != signal.SIGKILL and outcome.leftover:
        outcome.faults.append(f"a leftover after {how.name}: {contents(workspace)} {ended.said}")
    if ended.code == CODES[how] and how != signal.SIGKILL:
        claimed = "new" if "is complete and stays" in ended.said else "nothing was left behind"
        if (claimed == "new") != (outcome.destination == "new"):
            outcome.faults.append(f"said '{ended.said}', but the destination is {outcome.destination}")
    held = [path for path in workspace.rglob("*") if path.name != "writer.json"]
    small = str(stage.home / "small")
    next_one = again(["widen", small, str(target), *(["--overwrite"] if target.exists() else [])])
    if outcome.destination == "absent" and overwrite:  # the old model is put back, and the growth refused
        if next_one.code != 1 or f"the model of {target} is back" not in next_one.said:
            outcome.faults.append(f"the old model is not back: {next_one.said}")
        next_one = again(["widen", small, str(target), "--overwrite"])
    if held and f"{workspace}" not in next_one.said:
        outcome.faults.append(f"the next growth did not name {workspace}: {next_one.said}")
    if next_one.code or contents(target) != stage.whole:
        outcome.faults.append(f"the next growth failed ({next_one.code}): {next_one.said}")
    if [path.name for path in target.parent.iterdir()] != [target.name]:
        outcome.faults.append(f"left after the next growth: {sorted(contents(target.parent))}")
    shutil.rmtree(target.parent)
    return outcome


def process(arguments: list[str]) -> subprocess.Popen[str]:
    """The same by a whole interpreter."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "growth", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)


def kill_a_process(stage: Stage, number: int, how: signal.Signals, overwrite: bool, draw: random.Random) -> Outcome:
    """As `kill_once`, with whole processes; the moment is drawn once the workspace is there."""
    home = stage.home / f"process-{number}"
    target = home / "wide"
    home.mkdir()
    if overwrite:
        shutil.copytree(stage.old, target)
    running = process(["widen", str(stage.home / "small"), str(target), *(["--overwrite"] if overwrite else [])])
    while not workspace_of(target).exists() and running.poll() is None:
        time.sleep(0.0005)
    time.sleep(draw.uniform(0, 1.5 * stage.writing))
    running.send_signal(how)
    said = running.communicate()[1]

    def again(arguments: list[str]) -> Ended:
        return start(arguments, stage.home / "log").wait()

    return look(stage, target, how, overwrite, Ended(running.returncode, said), again)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--processes", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    draw, home = random.Random(arguments.seed), Path(tempfile.mkdtemp(dir=arguments.folder))
    counts: collections.Counter[tuple[str, ...]] = collections.Counter()
    faults = []
    try:
        stage = set_stage(home)
        print(f"a growth takes {stage.seconds:.2f} s, {stage.writing:.2f} s of it after the workspace appeared")
        with remembered_twin(home / "small"):
            for number in range(arguments.kills + arguments.processes):
                how, overwrite = SIGNALS[number % 3], number // 3 % 2 == 1
                one = kill_once if number < arguments.kills else kill_a_process
                outcome = one(stage, number, how, overwrite, draw)
                kind = "fork" if one is kill_once else "process"
                place = "--overwrite" if overwrite else "fresh"
                left = "leftover" if outcome.leftover else ""
                counts[kind, how.name, place, outcome.destination, left] += 1
                faults += [f"{number} {how.name} {place}: {fault}" for fault in outcome.faults]
    finally:
        shutil.rmtree(home)
    print("| run as | signal | into | destination afterwards | workspace | kills |\n|---|---|---|---|---|---:|")
    for row, times in sorted(counts.items()):
        print("|", " | ".join((*row, str(times))), "|")
    print(f"{sum(counts.values())} kills, {len(faults)} faults", *faults, sep="\n")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
