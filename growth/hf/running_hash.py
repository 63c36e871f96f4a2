"""SHA-256 of a file whose parts are read for another purpose.

Weights are read tensor by tensor, as a rule in the order in which they lie in their file. Each is
hashed while it is in memory; what was not read in order is read once more at the end."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable

_GAP = 1 << 24
"""Bytes that are read besides, where a part begins a little after the last one: a header, a tensor that
does not grow."""


class RunningHash:
    """SHA-256 of one file, which any number of threads read parts of.

    Example:
        >>> import io
        >>> running = RunningHash()
        >>> running.follow(0, memoryview(b"weights "), lambda start, size: b"")
        >>> running.hexdigest(lambda start: [b"and more"]) == hashlib.sha256(b"weights and more").hexdigest()
        True
    """

    def __init__(self) -> None:
        self._digest, self._done, self._lock = hashlib.sha256(), 0, threading.Lock()

    def follow(self, start: int, content: memoryview, read: Callable[[int, int], bytes]) -> None:
        """Hash a part of the file that has been read, if it is the next one, or nearly.

        Args:
            start: of the part, from the beginning of the file.
            content: its bytes.
            read: (start, size) -> the bytes there, for those between the last part and this one.
        """
        if not self._lock.acquire(blocking=False):  # another thread hashes another part: that is behind or before
            return
        try:
            gap = start - self._done
            if gap < 0 or gap > _GAP:
                return
            if gap:
                between = read(self._done, gap)
                if len(between) != gap:
                    return
                self._digest.update(between)
            self._digest.update(content)
            self._done = start + len(content)
        finally:
            self._lock.release()

    def hexdigest(self, rest: Callable[[int], Iterable[bytes]]) -> str:
        """The hash of the whole file.

        Args:
            rest: start -> the content from there to the end, in parts.
        """
        with self._lock:
            for part in rest(self._done):
                self._digest.update(part)
                self._done += len(part)
            return self._digest.hexdigest()
