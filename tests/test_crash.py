"""What an interrupted widening leaves: nothing that looks like a model, and whatever was there before as it was."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM

import growth
from growth import checkpoint
from growth.equivalence.twin import TwinReport, prove_twin
from growth.planning import plan_widening
from growth.safetensors_writer import SafetensorsWriter
from growth.source import Checkpoint

SIZES = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "vocab_size": 60, "max_position_embeddings": 64}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small real checkpoint; nothing here writes to it."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("crash") / "source"
    LlamaForCausalLM(LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **SIZES)).save_pretrained(folder)
    (folder / "README.md").write_text("# A card\n")
    (folder / "tokenizer_config.json").write_text("{}\n")
    return folder


@pytest.fixture(scope="module")
def twin(source: Path) -> TwinReport:
    return prove_twin(plan_widening(source))


@pytest.fixture
def proved(twin: TwinReport, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin's proof, which stands before anything is written, made once for all tests."""
    monkeypatch.setattr(checkpoint, "prove_twin", lambda plan, device="cpu": twin)


def snapshot(folder: Path) -> dict[str, str]:
    """Everything below a folder, by hash."""
    return {
        str(path.relative_to(folder)): "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
    }


def models(folder: Path) -> list[Path]:
    """The folders below that look like a model: a config beside weights."""
    return [path.parent for path in folder.rglob("config.json") if {*path.parent.glob("*.safetensors*"), *path.parent.glob("*.bin*")}]


def disk_full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


FAILURES: list[tuple[Callable[[], BaseException], type[BaseException], str]] = [
    (lambda: growth.ProofError("injected. Please report this."), growth.ProofError, "injected"),
    (disk_full, growth.CheckpointError, "No space left on device"),
    (KeyboardInterrupt, KeyboardInterrupt, ""),
    (lambda: MemoryError("injected"), MemoryError, "injected"),
]
NAMES = ["refused", "disk full", "Ctrl-C", "out of memory"]


@dataclass
class Bomb:
    """Stands in for a function: lets ``fuse`` calls pass, then raises."""

    function: Callable[..., Any]
    raises: Callable[[], BaseException]
    fuse: int
    calls: int = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.calls == self.fuse:
            raise self.raises()
        self.calls += 1
        return self.function(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else lambda *args, **kwargs: self(instance, *args, **kwargs)


def tensor_count(source: Path) -> int:
    return len(load_file(source / "model.safetensors"))


def crash(bomb: Bomb, source: Path, target: Path, error: type[BaseException], said: str, **options: Any) -> None:
    """Widen into a folder that holds other things, be interrupted, and find all as it was."""
    home = target.parent
    while not home.exists():
        home = home.parent
    before = snapshot(home)
    with pytest.raises(error) as caught:
        growth.widen_checkpoint(source, target, **options)
    assert bomb.calls == bomb.fuse
    assert said in str(caught.value) and "\n" not in str(caught.value)
    if isinstance(caught.value, growth.CheckpointError):
        assert str(target) in str(caught.value) and "try again" in str(caught.value)
    assert snapshot(home) == before
    assert not list(home.rglob(".*growing*"))


@pytest.mark.parametrize("step", ["grow_blocks", "check_fold"])
@pytest.mark.parametrize(("raises", "error", "said"), FAILURES, ids=NAMES)
@pytest.mark.usefixtures("proved")
def test_crash_at_every_tensor_leaves_nothing(
    step: str,
    raises: Callable[[], BaseException],
    error: type[BaseException],
    said: str,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "neighbour").mkdir()
    (tmp_path / "neighbour" / "kept.txt").write_text("kept")
    function, before = getattr(checkpoint, step), snapshot(source)
    for number in range(tensor_count(source)):
        bomb = Bomb(function, raises, number)
        monkeypatch.setattr(checkpoint, step, bomb)
        crash(bomb, source, tmp_path / "wide", error, said)
    assert snapshot(source) == before
    monkeypatch.setattr(checkpoint, step, function)
    growth.widen_checkpoint(source, tmp_path / "wide")


@pytest.mark.parametrize(("raises", "error", "said"), FAILURES, ids=NAMES)
@pytest.mark.usefixtures("proved")
def test_crash_at_every_tensor_keeps_the_old_destination(
    raises: Callable[[], BaseException],
    error: type[BaseException],
    said: str,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = tmp_path / "wide"
    torch.manual_seed(1)
    BertForMaskedLM(BertConfig(num_attention_heads=4, **SIZES)).save_pretrained(target)
    function = checkpoint.grow_blocks
    for number in range(tensor_count(source)):
        bomb = Bomb(function, raises, number)
        monkeypatch.setattr(checkpoint, "grow_blocks", bomb)
        crash(bomb, source, target, error, said, overwrite=True)
    monkeypatch.setattr(checkpoint, "grow_blocks", function)
    growth.widen_checkpoint(source, target, overwrite=True)
    assert json.loads((target / "config.json").read_text())["model_type"] == "llama"
    assert [path.name for path in tmp_path.iterdir()] == ["wide"]


STEPS: list[tuple[Any, str, int, dict[str, Any]]] = [
    (Checkpoint, "read", 7, {}),
    (SafetensorsWriter, "append", 0, {}),
    (SafetensorsWriter, "append", 11, {}),
    (SafetensorsWriter, "__init__", 2, {"max_shard_size": "50KB"}),
    (checkpoint, "write_card", 0, {}),
    (Path, "write_text", 0, {}),
    (Path, "write_text", 1, {}),
    (Path, "write_text", 2, {}),
    (os, "rename", 0, {}),
]


@pytest.mark.parametrize(
    ("owner", "name", "fuse", "options"), STEPS, ids=[f"{owner.__name__}.{name} {fuse}" for owner, name, fuse, _ in STEPS]
)
@pytest.mark.parametrize(("raises", "error", "said"), FAILURES[1:3], ids=NAMES[1:3])
@pytest.mark.usefixtures("proved")
def test_crash_at_every_other_step_leaves_nothing(
    owner: Any,
    name: str,
    fuse: int,
    options: dict[str, Any],
    raises: Callable[[], BaseException],
    error: type[BaseException],
    said: str,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bomb = Bomb(getattr(owner, name), raises, fuse)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, bomb)
        crash(bomb, source, tmp_path / "new" / "below" / "wide", error, said, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("proved")
def test_crash_in_the_callers_progress_leaves_nothing(source: Path, tmp_path: Path) -> None:
    def progress(done: int, total: int, name: str) -> None:
        if done > total / 2:
            raise RuntimeError(f"at {name}")

    with pytest.raises(RuntimeError, match="at model"):
        growth.widen_checkpoint(source, tmp_path / "wide", progress=progress)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("raises", "error", "said"), FAILURES[1:3], ids=NAMES[1:3])
@pytest.mark.usefixtures("proved")
def test_crash_while_taking_its_place_keeps_the_old_destination(
    raises: Callable[[], BaseException],
    error: type[BaseException],
    said: str,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = tmp_path / "wide"
    growth.widen_checkpoint(source, target)
    before = snapshot(tmp_path)
    for name in ("replace", "rename"):
        move = getattr(os, name)

        def moved(src: Any, dst: Any, *, move: Callable[..., Any] = move, **kwargs: Any) -> Any:
            if ".growing-" in str(src):
                raise raises()
            return move(src, dst, **kwargs)

        monkeypatch.setattr(os, name, moved)
    with pytest.raises(error) as caught:
        growth.widen_checkpoint(source, target, overwrite=True, width=3)
    assert said in str(caught.value)
    assert snapshot(tmp_path) == before


# Runs ``grow`` and stops for good at a chosen point: once the fifth block is written, or when only config.json is left to write.
FREEZE = """
import pathlib, signal, sys, time

from growth.cli.main import main
from growth.safetensors_writer import SafetensorsWriter

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started us with it ignored
where, begun = sys.argv[1], pathlib.Path(sys.argv[2])
del sys.argv[1:3]


def stop():
    begun.touch()
    time.sleep(120)


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
    """Three real processes, started together, each stopped by its signal once it is where it should be."""
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
    return {name: stop(*found, signals[name]) for name, found in running.items()}


def stop(home: Path, begun: Path, process: subprocess.Popen[str], how: signal.Signals) -> Stopped:
    try:
        for _ in waiting(100):
            if begun.exists() or process.poll() is not None:
                break
        seen = [str(path.relative_to(home)) for path in home.rglob("*")]
        process.send_signal(how)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert begun.exists(), f"it ended early: {err}"
    return Stopped(home, process.returncode, out, err, seen)


def waiting(seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.02)


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
    assert any(name.endswith(".safetensors") for name in interrupted.seen), "it was interrupted before it wrote anything"
    assert interrupted.code == 130
    assert interrupted.out == ""
    assert [line for line in interrupted.err.splitlines() if line.strip()] == ["grow: interrupted; nothing was left behind."]
    assert list(interrupted.home.iterdir()) == []
