"""Ways to interrupt a widening at a chosen call, and the checkpoint whose widening is
interrupted."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import growth
from support.refusals import snapshot
from support.small_models import llama


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small real checkpoint; tests only read it."""
    folder = tmp_path_factory.mktemp("crash") / "source"
    llama().save_pretrained(folder)
    (folder / "README.md").write_text("# A card\n")
    (folder / "tokenizer_config.json").write_text("{}\n")
    return folder


def disk_full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@dataclass(frozen=True)
class Failure:
    """Something that goes wrong inside a widening.

    Args:
        name: of the failure.
        raises: makes what is raised inside.
        error: what the caller sees.
        said: part of its message.
    """

    name: str
    raises: Callable[[], BaseException]
    error: type[BaseException]
    said: str


DISK_FULL = Failure("disk full", disk_full, growth.CheckpointError, "No space left on device")
CTRL_C = Failure("Ctrl-C", KeyboardInterrupt, KeyboardInterrupt, "")
FAILURES = [
    Failure("refused", lambda: growth.ProofError("injected. Please report this."), growth.ProofError, "injected"),
    DISK_FULL,
    CTRL_C,
    Failure("out of memory", lambda: MemoryError("injected"), MemoryError, "injected"),
]


@dataclass
class Bomb:
    """Stands in for a function: lets ``fuse`` calls pass, then raises; with ``once``, only then."""

    function: Callable[..., Any]
    raises: Callable[[], BaseException]
    fuse: int
    once: bool = False
    calls: int = 0
    burst: bool = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.calls == self.fuse and not (self.once and self.burst):
            self.burst = True
            raise self.raises()
        self.calls += 1
        return self.function(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else lambda *args, **kwargs: self(instance, *args, **kwargs)


def tensor_count(source: Path) -> int:
    return len(load_file(source / "model.safetensors"))


def crash(bomb: Bomb, source: Path, target: Path, failure: Failure, **options: Any) -> None:
    """Widen into a folder that holds other things, be interrupted, and find all as it was."""
    home = target.parent
    while not home.exists():
        home = home.parent
    before = snapshot(home)
    with pytest.raises(failure.error) as caught:
        growth.widen_checkpoint(source, target, **options)
    assert bomb.calls == bomb.fuse
    assert failure.said in str(caught.value) and "\n" not in str(caught.value)
    if isinstance(caught.value, growth.CheckpointError):
        assert str(target) in str(caught.value) and "try again" in str(caught.value)
    assert snapshot(home) == before
    assert not list(home.rglob(".*growing"))
