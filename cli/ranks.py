"""``grow`` under torchrun: one process of several, of which the first speaks for all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_PATIENCE = timedelta(days=7)
"""How long a rank waits for the others, which may have large shards to write. torchrun ends them all if
one of them dies."""


def launched() -> bool:
    """Whether this process is one of several that torchrun has started."""
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys() and "TORCHELASTIC_RUN_ID" in (
        os.environ
    )


def speaks() -> bool:
    """Whether this process prints results and errors: the only one, or rank 0."""
    return not launched() or os.environ["RANK"] == "0"


@contextmanager
def process_group() -> Iterator[ProcessGroup | None]:
    """The process group of all processes that torchrun has started; None for a process alone."""
    if not launched():
        yield None
        return
    import torch.distributed as dist

    dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield dist.group.WORLD
    finally:
        dist.destroy_process_group()
