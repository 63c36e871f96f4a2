"""``grow`` under torchrun: one process of several, of which the first speaks for all."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from growth.errors import CheckpointError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_MEETING = timedelta(minutes=10)
"""How long the processes wait for the last of them to start."""
_WORKING = timedelta(days=7)
"""How long a rank waits for the others, which may have large shards to write. torchrun ends them all if one
of them dies."""


def launched() -> bool:
    """Whether this process is one of several that torchrun has started."""
    torchrun = {"TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    return torchrun <= os.environ.keys()


def speaks() -> bool:
    """Whether this process prints results and errors: the only one, or rank 0."""
    return not launched() or os.environ["RANK"] == "0"


@contextmanager
def process_group() -> Iterator[ProcessGroup | None]:
    """The process group of all processes that torchrun has started; None for a process alone.

    Raises:
        CheckpointError: they do not find each other.
    """
    if not launched():
        yield None
        return
    import torch.distributed as dist

    try:
        with _unhandled():
            dist.init_process_group("gloo", timeout=_MEETING)
            group = dist.new_group(backend="gloo", timeout=_WORKING)
    except (RuntimeError, ValueError, OSError) as error:
        raise CheckpointError(
            f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']} did not find the others "
            f"({str(error).splitlines()[0][:200]}). Use one torchrun for all; or, for a growth that a process of "
            "another torchrun job starts, take TORCHELASTIC_RUN_ID out of its environment (env -u TORCHELASTIC_RUN_ID "
            "grow ...)."
        ) from error
    try:
        yield group
    finally:
        dist.destroy_process_group()


@contextmanager
def _unhandled() -> Iterator[None]:
    """Let signals end the process at once: it waits in C++, where no handler of Python's is run, and has
    written nothing yet."""
    numbers = [signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.Signals.__members__]
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if callable(handler):
            signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
