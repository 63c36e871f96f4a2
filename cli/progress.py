"""What a command that takes seconds shows meanwhile, where stderr is a terminal: a line that is
overwritten and gone at the end, and a bar over the bytes written."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

_ERASE = "\r\x1b[K"


class Progress:
    """A line on stderr that says what is going on.

    Args:
        steps: how many steps `next` will count, 0 where it does not count.
        quiet: show nothing.
    """

    def __init__(self, steps: int = 0, quiet: bool = False) -> None:
        self._steps, self._step = steps, 0
        self._shown = sys.stderr.isatty() and not quiet
        self._bar: tqdm[Any] | None = None
        self._steps_told: logging.Handler = logging.NullHandler()

    def load(self) -> None:
        """Import transformers, which takes seconds, and keep its own bars and messages off the screen:
        some quote a whole config as it is."""
        self.say("loading PyTorch and transformers (some seconds) ...")
        from transformers.utils import logging as of_transformers

        of_transformers.disable_progress_bar()
        of_transformers.set_verbosity(logging.CRITICAL)

    def say(self, what: str) -> None:
        """Show a line in place of the last one."""
        if self._shown:
            sys.stderr.write(f"{_ERASE}{what}")
            sys.stderr.flush()

    def next(self, what: str) -> None:
        """The same, numbered."""
        self._step += 1
        self.say(f"[{self._step}/{self._steps}] {what} ...")

    def written(self, done: int, total: int, name: str) -> None:
        """A bar over the bytes written; ``name`` is the tensor at hand."""
        if not self._shown:
            return
        if self._bar is None:
            from tqdm import tqdm

            self.say("")
            self._bar = tqdm(total=total, unit="B", unit_scale=True, leave=False, desc="writing")
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.set_description("waiting for the disk")

    def __enter__(self) -> Progress:
        self._steps_told = _Steps(self)
        logging.getLogger("growth.infer").addHandler(self._steps_told)
        logging.getLogger("growth.infer").setLevel(logging.INFO)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger("growth.infer").removeHandler(self._steps_told)
        if self._bar is not None:
            self._bar.close()
        self.say("")


class _Steps(logging.Handler):
    """Shows the steps of an inference, which may take some seconds, in place of the line that is shown."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.INFO)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.INFO:
            self._progress.say(f"{record.getMessage()} ...")


class _Lines(logging.Handler):
    """Says on stderr what growth logs, a line each, in place of the line that is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING:
            return
        erased = _ERASE if sys.stderr.isatty() else ""
        sys.stderr.write(f"{erased}grow: {record.getMessage()}.\n")


@contextmanager
def told(aloud: bool = True) -> Iterator[None]:
    """What growth logs in the block is said on stderr, or by nobody."""
    lines, logger = _Lines() if aloud else logging.NullHandler(), logging.getLogger("growth")
    logger.addHandler(lines)
    try:
        yield
    finally:
        logger.removeHandler(lines)
