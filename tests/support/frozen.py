"""Growths in a process of their own that stop at a chosen step."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from growth.checkpoint import destination, workspace
from growth.checkpoint.safetensors_writer import SafetensorsWriter

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from forked import Child, Ended, start
from kills import Stage


class Frozen:
    """A growth that stops at a chosen step until it is told to go on.

    Args:
        stage: with the source.
        home: where the destination will be; a model to overwrite may be there.
        where: ``weights`` (so many ``blocks`` are written), ``config`` (only config.json is missing),
            ``between`` (the two renames; there is no exchange), ``placed`` (the old model is still
            to be removed).
        prepare: called in the process first.
    """

    def __init__(
        self,
        stage: Stage,
        home: Path,
        where: str,
        *options: str,
        prepare: Callable[[], Any] = lambda: None,
        blocks: int = 5,
    ) -> None:
        self.blocks = blocks
        self.target, self.begun, self.go = home / "wide", home.with_suffix(".begun"), home.with_suffix(".go")
        self.log, self.where, self.prepare = home.with_suffix(".log"), where, prepare
        arguments = ["widen", str(stage.home / "small"), str(self.target), *options]
        self.child: Child = start(arguments, self.log, self._prepare)
        while not self.begun.exists():
            assert os.waitpid(self.child.pid, os.WNOHANG)[0] == 0, f"it ended early: {self.log.read_text()}"
            time.sleep(0.005)

    def end(self, how: int | None = None) -> Ended:
        """Send a signal, or let it go on; and wait."""
        if how is not None:
            os.kill(self.child.pid, how)
        if how is None or self.where == "placed":  # a step that is not parted, so the signal waits for its end
            self.go.touch()
        return self.child.wait()

    def _stop(self) -> None:
        self.begun.touch()
        while not self.go.exists():
            time.sleep(0.005)

    def _prepare(self) -> None:
        self.prepare()
        calls: list[str] = []

        def stopping(owner: Any, name: str, when: Callable[..., bool]) -> None:
            function = getattr(owner, name)

            def called(*arguments: Any, **options: Any) -> Any:
                calls.append(name)
                if not self.begun.exists() and when(*arguments):
                    self._stop()
                return function(*arguments, **options)

            setattr(owner, name, called)

        if self.where == "weights":
            stopping(SafetensorsWriter, "append", lambda *_: len(calls) == self.blocks)
        elif self.where == "config":
            stopping(Path, "write_text", lambda path, *_: path.name == "config.json")
        elif self.where == "placed":
            stopping(workspace, "_remove", lambda path: path.name == "new")
        else:
            destination.exchanged = lambda one, other: False  # type: ignore[attr-defined]
            stopping(os, "rename", lambda one, other: one.name == "new")
