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

from growth.checkpoint.interrupts import interrupt
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


_deaf_until = 0.0


def _stop(number: int, frame: FrameType | None) -> None:
    global _deaf_until
    if time.monotonic() < _deaf_until:
        return
    _deaf_until = time.monotonic() + _SAME
    if signal.Signals(number).name == "SIGHUP" and stat.S_ISCHR(os.fstat(2).st_mode):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the terminal has gone, and refuses every word
    interrupt(Stopped(number))


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` in the block when a signal asks the process to end. One that is ignored
    (``nohup``), or that the caller handles, stays so.

    The handlers stay after the block, deaf for a second and then as before: the command is done, and
    what comes while the interpreter shuts down has nothing left to stop.
    """
    global _deaf_until
    _deaf_until = 0.0
    if threading.current_thread() is threading.main_thread():
        for number in _STOPPING:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, _stop)
        atexit.unregister(_shut_down)
        atexit.register(_shut_down)
    try:
        yield
    finally:
        _deaf_until = time.monotonic() + _SAME


def _shut_down() -> None:
    for number in _STOPPING:
        if signal.getsignal(number) is _stop:
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
