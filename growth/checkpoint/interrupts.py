"""Steps that belong together, which the command line's signals do not part.

A handler of a signal can raise between any two instructions, also between making a folder and noting
that it was made. The handlers of ``grow`` raise by `interrupt`, which waits for the end of such a
part. Python's own Ctrl-C, outside of ``grow``, does not; what that leaves, the next growth removes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_parts = 0
_waiting: BaseException | None = None


def interrupt(error: BaseException) -> None:
    """Raise an error: now, or at the end of the part that is being run."""
    global _waiting
    if not _parts:
        raise error
    _waiting = error


@contextmanager
def unparted() -> Iterator[None]:
    """A part that is run to its end before `interrupt` raises."""
    global _parts, _waiting
    before, _parts = _parts, 1
    try:
        yield
    finally:
        _parts = before
        if not before and (error := _waiting) is not None:
            _waiting = None
            raise error


@contextmanager
def parted() -> Iterator[None]:
    """A stretch within an unparted part where `interrupt` raises all the same."""
    global _parts, _waiting
    _parts = 0
    try:
        if (error := _waiting) is not None:
            _waiting = None
            raise error
        yield
    finally:
        _parts = 1
