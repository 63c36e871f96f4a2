"""What must hold whatever the input: a growth or a refusal in one sentence, in bounded time and memory,
and nothing changed but the destination."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import resource
import signal
import sys
import traceback
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from growth.errors import GrowthError

CPU_SECONDS, WALL_SECONDS, JUMP, MESSAGE = 10, 100, 1_000_000_000, 4000
"""Per case: CPU time, time, growth of the largest resident memory in bytes (the plan of a model of 10**7 tokens takes
0.6 GB of it), characters of a message."""
_BIDI = {chr(code) for span in ((0x200E, 0x2010), (0x202A, 0x202F), (0x2066, 0x206A)) for code in range(*span)}


class Hang(BaseException):
    """A case took longer than it may. No `Exception`, so that nothing takes it for bad input."""


class Found(Exception):
    """Something that must not happen did.

    Args:
        kind: one of a few words, by which findings are counted.
        detail: what exactly.
        where: the place in the code, by which findings of a kind are told apart.
    """

    def __init__(self, kind: str, detail: str, where: str = "") -> None:
        super().__init__(f"{kind} {where}: {detail}")
        self.kind, self.detail, self.where = kind, detail, where


class DoesNotRun(Exception):
    """The source itself cannot be run by transformers, so that there is nothing to compare with."""


@dataclass(frozen=True)
class Refused:
    """An error on purpose: its class, and what it says."""

    kind: str
    message: str


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """Raise `Hang` in a block that takes too long, and `Found` if memory jumped."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise Hang("".join(traceback.format_stack(frame, limit=12)))

    old = {number: signal.signal(number, ring) for number in (signal.SIGVTALRM, signal.SIGALRM)}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in old.items():
            signal.signal(number, handler)
    jump = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    if jump > JUMP:
        raise Found("memory", f"{jump / 1e6:.0f} MB more than ever before")


def guarded(call: Callable[[], Any]) -> Any:
    """What a call returns, or the refusal that it raises.

    Raises:
        Found: for any other exception, a hang, a bad message, or changed settings of the process.
    """
    settings = _settings()
    try:
        with limits():
            result = call()
    except GrowthError as error:
        check_message(str(error), place(error))
        result = Refused(type(error).__name__, str(error))
    except Hang as error:
        raise Found("hang", str(error)[-600:], place(error)) from error
    except (Found, DoesNotRun):
        raise
    except Exception as error:
        raise Found("foreign", f"{type(error).__name__}: {str(error)[:200]!r}", place(error)) from error
    if _settings() != settings:
        raise Found("settings", f"{settings} became {_settings()}")
    return result


def _settings() -> tuple[Any, ...]:
    random = hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()[:8]
    return torch.get_default_dtype(), torch.is_grad_enabled(), os.getcwd(), random


def place(error: BaseException) -> str:
    """file:line of the innermost frame that is in growth, and of the innermost of all."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f"{Path(f.filename).name}:{f.lineno}" for f in frames if "/growth/" in f.filename or "/cli/" in f.filename]
    last = frames[-1] if not isinstance(error, Hang) else frames[max(0, len(frames) - 2)]
    return f"{own[-1] if own else '?'} ({Path(last.filename).name}:{last.lineno})"


def raw_controls(text: str, allowed: str = "") -> list[str]:
    """Characters that a terminal obeys rather than shows, and halves of characters."""
    odd = (c for c in text if c not in allowed and (unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in _BIDI))
    return sorted({repr(c) for c in odd})


def check_message(message: str, where: str = "") -> None:
    """One sentence or two, of bounded length, without control characters, which does not ask to report what is
    wrong with the input."""
    if odd := raw_controls(message):
        raise Found("control character", f"{odd} in {message[:300]!r}", where)
    if not message.rstrip().endswith((".", "?", ")", "!")):
        raise Found("message", f"no sentence: {message[-200:]!r}", where)
    if len(message) > MESSAGE:
        raise Found("message", f"{len(message)} characters: {message[:120]!r}", where)
    if "Please report" in message:  # without a condition
        raise Found("report", message[:600], where)


def check_output(text: str) -> None:
    """What was printed may have several lines and no control characters."""
    if odd := raw_controls(text, "\n"):
        raise Found("control character", f"{odd} printed")


def snapshot(folder: Path, without: str = "") -> dict[str, str]:
    """Everything below a folder by its content, but for what is below ``without``."""
    found: dict[str, str] = {}
    stack = [str(folder)]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                if entry.path == without:
                    continue
                name = os.path.relpath(entry.path, folder)
                if entry.is_symlink():
                    found[name] = f"link to {os.readlink(entry.path)}"
                elif entry.is_dir():
                    found[name] = "folder"
                    stack.append(entry.path)
                elif entry.is_file():
                    found[name] = hashlib.sha256(Path(entry.path).read_bytes()).hexdigest()
                else:
                    found[name] = "special"
    return found


def check_same(before: dict[str, str], after: dict[str, str]) -> None:
    """Raise `Found` if anything outside the destination changed."""
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        source = [name for name in changed if name.partition(os.sep)[0] == "src"]
        raise Found("source changed" if source else "left outside", ", ".join(changed)[:300])


def terminal(call: Callable[[], Any]) -> tuple[int, str, str]:
    """Exit code and what was printed, by a call that ends in SystemExit. Its handlers of signals end with it, as they
    would with the process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace")]
    old, code = (sys.stdout, sys.stderr), 0
    sys.stdout, sys.stderr = streams
    try:
        call()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    finally:
        sys.stdout, sys.stderr = old
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for stream in streams:
        stream.flush()
    out, err = (stream.buffer.getvalue().decode() for stream in streams)  # type: ignore[attr-defined]
    return code, out, err
