"""What a real process that is killed or interrupted while it widens leaves: nothing that looks like
a model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

import growth
from support.crashes import source, tensor_count

__all__ = ["source"]  # a fixture


def models(folder: Path) -> list[Path]:
    """The folders below that look like a model: a config beside weights."""
    return [
        path.parent
        for path in folder.rglob("config.json")
        if {*path.parent.glob("*.safetensors*"), *path.parent.glob("*.bin*")}
    ]


# Runs ``grow`` and stops for good at a chosen point: once the fifth block is written, or when only
# config.json is left to write.
FREEZE = """
import pathlib, signal, sys, time

from growth.cli.main import main
from growth.checkpoint.safetensors_writer import SafetensorsWriter

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started us with it ignored
where, begun = sys.argv[1], pathlib.Path(sys.argv[2])
del sys.argv[1:3]


def stop():
    begun.touch()
    while True:
        time.sleep(1)


append, write_text, written = SafetensorsWriter.append, pathlib.Path.write_text, []


def slow_append(self, block):
    append(self, block)
    written.append(block)
    if where == "weights" and len(written) == 5:
        stop()


def slow_write_text(self, *args, **kwargs):
    if where == "config" and self.name == "config.json":
        stop()
    return write_text(self, *args, **kwargs)


SafetensorsWriter.append, pathlib.Path.write_text = slow_append, slow_write_text
main()
"""


@dataclass
class Stopped:
    """A ``grow widen`` that was stopped by a signal."""

    home: Path
    code: int
    out: str
    err: str
    seen: list[str]

    @property
    def target(self) -> Path:
        return self.home / "wide"


@pytest.fixture(scope="module")
def stopped(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stopped]:
    """Three real processes, started together, each stopped by its signal once it is where it should
    be."""
    folder = tmp_path_factory.mktemp("signals")
    script = folder / "freeze.py"
    script.write_text(FREEZE)
    signals = {"kill weights": signal.SIGKILL, "kill config": signal.SIGKILL, "interrupt weights": signal.SIGINT}
    running = {}
    for name in signals:
        home = folder / name.replace(" ", "-")
        home.mkdir()
        begun = folder / f"{home.name}.begun"
        command = [sys.executable, str(script), name.split()[1], str(begun), "widen", str(source), str(home / "wide")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        running[name] = home, begun, process
    try:
        return {name: stop(*found, signals[name]) for name, found in running.items()}
    finally:
        for _, _, process in running.values():
            process.kill()
            process.communicate()


def stop(home: Path, begun: Path, process: subprocess.Popen[str], how: signal.Signals) -> Stopped:
    """Send the signal once the process is where it should be. However long a loaded machine takes, it
    either gets there or ends."""
    while not begun.exists() and process.poll() is None:
        time.sleep(0.02)
    seen = [str(path.relative_to(home)) for path in home.rglob("*")]
    process.send_signal(how)
    out, err = process.communicate()
    assert begun.exists(), f"it ended early: {err}"
    return Stopped(home, process.returncode, out, err, seen)


@pytest.mark.parametrize("where", ["weights", "config"])
def test_kill_leaves_nothing_that_looks_like_a_model(where: str, stopped: dict[str, Stopped], source: Path) -> None:
    killed = stopped[f"kill {where}"]
    assert killed.code == -signal.SIGKILL
    assert any(name.endswith(".safetensors") for name in killed.seen), "it was killed before it wrote anything"
    assert any(name.endswith("growth.json") for name in killed.seen) == (where == "config")
    assert not killed.target.exists()
    assert models(killed.home) == []
    grown = growth.widen_checkpoint(source, killed.target)
    assert models(killed.home) == [grown.path]
    assert grown.proof.fold.tensors == tensor_count(source) and grown.proof.twin.ok


def test_interrupt_leaves_nothing(stopped: dict[str, Stopped]) -> None:
    interrupted = stopped["interrupt weights"]
    assert any(name.endswith(".safetensors") for name in interrupted.seen), (
        "it was interrupted before it wrote anything"
    )
    assert interrupted.code == 130
    assert interrupted.out == ""
    assert [line for line in interrupted.err.splitlines() if line.strip()] == [
        "grow: interrupted; nothing was left behind."
    ]
    assert list(interrupted.home.iterdir()) == []
