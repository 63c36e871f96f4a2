"""A signal between any two lines of what makes, claims and removes folders leaves nothing, and a
destination that is whole."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from growth.checkpoint import destination, durable, interrupts, workspace, workspace_lock
from growth.checkpoint.destination import appearing
from growth.checkpoint.interrupts import interrupt, parted, unparted
from support.refusals import snapshot

TRACED = {module.__file__ for module in (destination, durable, workspace, workspace_lock)}


class Stopped(KeyboardInterrupt):
    pass


def test_an_interrupt_waits_for_the_end_of_a_part() -> None:
    done = []
    with pytest.raises(Stopped):
        with unparted():
            with unparted():
                interrupt(Stopped())
                done.append("inner")
            done.append("outer")
        done.append("after")
    assert done == ["inner", "outer"]
    with pytest.raises(Stopped), unparted(), parted():
        interrupt(Stopped())
        done.append("not reached")
    with pytest.raises(Stopped), unparted():
        interrupt(Stopped())
        with parted():
            done.append("not reached")
    with pytest.raises(Stopped):
        interrupt(Stopped())
    assert done == ["inner", "outer"]


def grow_with_interrupt(target: Path, overwrite: bool, line: int) -> bool:
    """Write a destination, interrupted before the given line that is run of those files. Returns
    whether it got so far."""
    run = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        nonlocal run
        if frame.f_code.co_filename not in TRACED:
            return None
        if event == "line":
            run += 1
            if run == line:
                interrupt(Stopped())
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with appearing(target, overwrite) as folder:
            (folder / "config.json").write_text('{"model_type": "new"}')
            (folder / "model.safetensors").write_text("new")
    except Stopped:
        return True
    finally:
        sys.settrace(before)
    return run >= line


@pytest.mark.parametrize("way", ["fresh", "exchange", "two renames"])
def test_an_interrupt_at_every_line(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "two renames":
        monkeypatch.setattr(destination, "exchanged", lambda one, other: False)
    target, line, ended = tmp_path / "home" / "wide", 0, set()
    old, new = ('{"model_type": "old"}', "old"), ('{"model_type": "new"}', "new")
    while True:
        line += 1
        shutil.rmtree(target.parent, ignore_errors=True)
        target.parent.mkdir()
        if way != "fresh":
            target.mkdir()
            (target / "config.json").write_text(old[0])
            (target / "model.safetensors").write_text(old[1])
        if not grow_with_interrupt(target, way != "fresh", line):
            break
        found = snapshot(target.parent)
        assert {name.split("/")[0] for name in found} <= {"wide"}, (line, sorted(found))
        if target.exists():
            held = ((target / "config.json").read_text(), (target / "model.safetensors").read_text())
            assert held in (old, new) and (way != "fresh" or held == new)
            ended.add(held)
    assert line > 100 and new in ended and (way == "fresh" or old in ended)
    assert interrupts._parts == 0 and interrupts._waiting is None
    assert os.listdir(target) and os.listdir(target.parent) == ["wide"]


def test_steps_that_do_not_wait_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("unparted", "parted"):
        monkeypatch.setattr(workspace, name, nullcontext)
    with pytest.raises(AssertionError, match=r"wide.growing"):
        test_an_interrupt_at_every_line("exchange", tmp_path, monkeypatch)
