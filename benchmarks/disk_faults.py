"""Disk faults: ``grow widen`` with a disk that fails at the n-th call, for every n.

    python benchmarks/disk_faults.py [--every 1] [--folder DIR]

A small library, loaded before the C library (LD_PRELOAD; a compiler ``cc`` is needed), lets one call
fail that concerns the destination, or the source: the n-th write, sync, rename, creation, removal
or read, alone or with all that follow it, as a full disk (ENOSPC), a broken one (EIO) or a
read-only one (EROFS) does. Both into a new folder and with ``--overwrite``, and for the latter also as on
file systems that cannot exchange two folders. ``--every 7`` takes every seventh n.

As root, a file system of 20 MB is filled besides, up to a point from no byte free to nearly enough.

After each fault: one sentence and exit code 1, and the destination is what it was; or exit code 0,
and it is the whole new model. What could not be removed is named, and the next growth removes it.
The source is a checkpoint of `transformers.Trainer`, whose optimizer grows too. The growths are
forks, as in ``kills.py``."""

from __future__ import annotations

import argparse
import ctypes
import errno
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from forked import Kept, contents, make_source, remembered_twin, start
from transformers import AutoModelForCausalLM, PrinterCallback, Trainer, TrainingArguments

import growth.checkpoint.widen as widening
from growth.checkpoint import destination
from growth.hf.paths import workspace_of

KINDS = ("write", "read", "sync", "rename", "make", "remove")
"""In the order of the library's."""
ERRORS = {
    "write": (errno.ENOSPC, errno.EIO),
    "read": (errno.EIO,),
    "sync": (errno.EIO, errno.ENOSPC),
    "rename": (errno.EIO, errno.EROFS),
    "make": (errno.ENOSPC, errno.EROFS),
    "remove": (errno.EIO,),
}
PLACES = ("fresh", "--overwrite", "--overwrite by two renames")


@dataclass
class Stage:
    """Where growths fail: ``home`` with the source ``small`` and ``old``, a model to overwrite."""

    home: Path
    whole: Kept
    old: Kept

    @property
    def small(self) -> Path:
        return self.home / "small"

    @property
    def target(self) -> Path:
        return self.home / "at" / "wide"

    def grow(self, place: str, prepare: Callable[[], Any]) -> tuple[int, str]:
        """One growth into a folder that is set up anew. Returns exit code and standard error."""
        shutil.rmtree(self.target.parent, ignore_errors=True)
        self.target.parent.mkdir()
        if place != PLACES[0]:
            shutil.copytree(self.home / "old", self.target)

        def prepared() -> None:
            if place == PLACES[2]:
                destination.exchanged = lambda one, other: False
            prepare()

        ended = start(self.command(place), self.home / "log", prepared).wait()
        return ended.code, ended.said

    def command(self, place: str) -> list[str]:
        options = [] if place == PLACES[0] else ["--overwrite"]
        return ["widen", str(self.small), str(self.target), "--optimizer", *options]

    def faults(self, place: str, code: int, said: str, prepare: Callable[[], Any] = lambda: None) -> list[str]:
        """What is wrong after a growth, and after the next one into the same place."""
        found, before = contents(self.target), {} if place == PLACES[0] else self.old
        workspace, wrong = workspace_of(self.target), []
        put_aside = not self.target.exists() and (workspace / "old").exists()
        if put_aside and f"{workspace / 'old'}" in said:
            found = contents(workspace / "old")
        if code not in (0, 1) or "Traceback" in said or (code == 1 and "grow: " not in said):
            wrong.append(f"exit code {code}")
        if found != (self.whole if code == 0 else before):
            wrong.append(
                "the destination is " + ("the new one" if found == self.whole else f"BROKEN: {sorted(found)}")
            )
        left = [path.name for path in self.target.parent.iterdir() if path not in (self.target, workspace)]
        if left or (workspace.exists() and str(workspace) not in said):
            wrong.append(f"not named: {left or sorted(contents(workspace))}")
        if workspace.exists():
            next_one = start(self.command(place), self.home / "log", prepare).wait()
            others = [path for path in self.target.parent.iterdir() if path != self.target]
            refused_whole = next_one.code == 1 and code == 0 and "exists and was kept" in next_one.said
            if others or contents(self.target) != self.whole or (next_one.code and not refused_whole):
                wrong.append(f"the next growth left {others}, exit code {next_one.code}: {next_one.said}")
        return wrong


def make_trainer_checkpoint(folder: Path) -> None:
    """A small Llama after one step of `transformers.Trainer`, with a tokenizer file and a card."""
    make_source(folder, hidden=32, layers=2)
    with tempfile.TemporaryDirectory() as run:
        arguments = TrainingArguments(run, max_steps=1, save_steps=1, report_to=[], use_cpu=True, disable_tqdm=True)
        text = {"input_ids": torch.arange(16), "labels": torch.arange(16)}
        trainer = Trainer(AutoModelForCausalLM.from_pretrained(folder), arguments, train_dataset=[text] * 8)
        trainer.pop_callback(PrinterCallback)
        trainer.train()
        shutil.copytree(Path(run) / "checkpoint-1", folder, dirs_exist_ok=True)


def set_stage(home: Path) -> Stage:
    make_trainer_checkpoint(home / "small")
    shutil.copytree(home / "small", home / "old")
    stage = Stage(home, {}, contents(home / "old"))
    code, said = stage.grow("fresh", lambda: None)
    assert code == 0, said
    stage.whole = contents(stage.target)
    return stage


def build(folder: Path) -> Path:
    """The library, compiled."""
    made = folder / "disk_faults.so"
    source = Path(__file__).with_suffix(".c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(made), str(source), "-ldl"], check=True)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder")
    arguments = parser.parse_args()
    if "disk_faults.so" not in os.environ.get("LD_PRELOAD", ""):
        with tempfile.TemporaryDirectory() as built:
            environment = {**os.environ, "LD_PRELOAD": str(build(Path(built)))}
            sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode)
    torch.set_num_threads(1)
    home = Path(tempfile.mkdtemp(dir=arguments.folder))
    counts: Counter[tuple[str, ...]] = Counter()
    wrong: list[str] = []
    try:
        stage = set_stage(home)
        with remembered_twin(stage.small):
            every_call(stage, arguments.every, counts, wrong)
            if os.geteuid() == 0:
                small_disk(stage, counts, wrong)
            else:
                print("not root, so no file system of 20 MB was filled")
    finally:
        shutil.rmtree(home)
    print("| what fails | how | into | exit 0 | exit 1 |\n|---|---|---|---:|---:|")
    for row in sorted({row[:3] for row in counts}):
        print("|", " | ".join((*row, *(str(counts[*row, code]) for code in ("0", "1")))), "|")
    print(f"{sum(counts.values())} growths, {len(wrong)} wrong", *wrong, sep="\n")
    sys.exit(1 if wrong else 0)


@dataclass
class Fault:
    """One call that will fail.

    Args:
        kind: of the call.
        number: of the call among those of its kind, from 1.
        error: the number of the error.
        forever: whether all that follow it fail too.
        below: the folder whose calls count.
        reached: a file that appears if there was such a call.
    """

    kind: str
    number: int
    error: int
    forever: bool
    below: Path
    reached: Path

    @property
    def how(self) -> str:
        return f"{errno.errorcode[self.error]} {'from then on' if self.forever else 'once'}"

    def arm(self) -> None:
        """Let it fail in this process, a fork."""
        library, which, leave = ctypes.CDLL(None), KINDS.index(self.kind), os._exit
        library.faults_arm(os.fsencode(self.below), which, self.number, self.error, self.forever)

        def leaving(code: int) -> NoReturn:
            if library.faults_count(which) >= self.number:
                self.reached.touch()
            leave(code)

        os._exit = leaving


def every_call(stage: Stage, every: int, counts: Counter[tuple[str, ...]], wrong: list[str]) -> None:
    """Let each call of each kind fail, one after the other, until there are no more."""
    errors = [(kind, error) for kind in KINDS for error in ERRORS[kind]]
    for place, (kind, error), forever in itertools.product(PLACES, errors, (False, True)):
        below = stage.small if kind == "read" else stage.target.parent
        for number in itertools.count(1, every):
            fault = Fault(kind, number, error, forever, below, stage.home / "reached")
            fault.reached.unlink(missing_ok=True)
            code, said = stage.grow(place, fault.arm)
            if not fault.reached.exists():
                break
            counts[kind, fault.how, place, str(code)] += 1
            found = stage.faults(place, code, said)
            wrong += [f"{kind} {number} {fault.how} {place}: {one}: {said}" for one in found]


def small_disk(stage: Stage, counts: Counter[tuple[str, ...]], wrong: list[str]) -> None:
    """Fill a file system of 20 MB, once the growth has seen to it that there is room."""
    disk = stage.home / "at"
    shutil.rmtree(disk)
    size = sum(path.stat().st_size for path in (stage.home / "old").iterdir())
    for place in PLACES:
        for step in range(41):
            disk.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20M", "tmpfs", str(disk)], check=True)
            try:
                room = step * 5 * size // 40
                wrong += full_at(stage, place, room, counts)
            finally:
                subprocess.run(["umount", str(disk)], check=True)
            disk.rmdir()


def full_at(stage: Stage, place: str, room: int, counts: Counter[tuple[str, ...]]) -> list[str]:
    """A growth into a file system that other files fill, but for ``room`` bytes."""
    target = stage.target
    if place != PLACES[0]:
        shutil.copytree(stage.home / "old", target)

    def fill(folder: Path, size: int) -> None:
        free = shutil.disk_usage(folder).free - room
        with (target.parent / "filler").open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, max(1, free))

    def ample() -> None:
        widening.check_space = lambda folder, size: None

    def prepare() -> None:
        widening.check_space = fill
        if place == PLACES[2]:
            destination.exchanged = lambda one, other: False

    ended = start(stage.command(place), stage.home / "log", prepare).wait()
    (target.parent / "filler").unlink()
    counts["a file system of 20 MB", "full", place, str(ended.code)] += 1
    found = stage.faults(place, ended.code, ended.said, ample)
    return [f"full but for {room} bytes, {place}: {fault}: {ended.said}" for fault in found]


if __name__ == "__main__":
    main()
