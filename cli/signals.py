"""Ctrl-C, SIGTERM and SIGHUP end a command as an exception does, so that what it was writing is
removed. Only here: a library has no business with the signals of its caller."""

from __future__ import annotations

import atexit
import os
import signal
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from growth.checkpoint.workspace import leftover

_STOPPING = [signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.Signals.__members__]
_SAME = 1.0
"""Seconds in which a second signal is the first one again: a terminal and the program that started us
both pass a Ctrl-C on."""


class Stopped(KeyboardInterrupt):
    """A signal came that asks the process to end.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = signal.Signals(number)


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` in the block when a signal asks the process to end. One that is ignored
    (``nohup``), or that the caller handles, stays so."""
    last = -_SAME

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal last
        if time.monotonic() - last < _SAME:
            return
        last = time.monotonic()
        if signal.Signals(number).name == "SIGHUP" and stat.S_ISCHR(os.fstat(2).st_mode):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the terminal has gone, and refuses every word
        raise Stopped(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {
            number: signal.signal(number, stop)
            for number in _STOPPING
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
        }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        atexit.register(_finish, list(before))


def _finish(numbers: list[signal.Signals]) -> None:
    """The command is done; the interpreter takes a moment to shut down, and there is nothing left to
    stop."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Note on an interrupt what it means for the destination, where that is not that nothing has
    changed."""
    before = _identity(target)
    try:
        yield
    except KeyboardInterrupt as stop:
        if (now := _identity(target)) != before and now is not None:
            stop.add_note(f"{target} is complete and stays")
        if left := leftover(target):
            stop.add_note(left)
        raise


def _identity(target: Path) -> tuple[int, int] | None:
    try:
        found = os.lstat(target)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def stopped(interrupt: BaseException) -> tuple[str, int]:
    """The sentence and the exit code of a command that was interrupted: 128 plus the signal's
    number, as shells have it.

    Example:
        >>> stopped(KeyboardInterrupt())
        ('interrupted; nothing was left behind.', 130)
    """
    while not isinstance(interrupt, KeyboardInterrupt) and interrupt.__cause__ is not None:
        interrupt = interrupt.__cause__
    came = interrupt.signal if isinstance(interrupt, Stopped) else signal.SIGINT
    how = "interrupted" if came == signal.SIGINT else f"stopped by {came.name}"
    said = getattr(interrupt, "__notes__", None) or ["nothing was left behind"]
    return f"{how}; {'; '.join(said)}.", 128 + came
