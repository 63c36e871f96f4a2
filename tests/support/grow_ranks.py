"""``grow`` as several ranks: forks of this process with the environment that torchrun gives, and a real
process group between them."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from forked import Child, start


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def start_ranks(
    arguments: list[str], log: Path, count: int = 2, prepare: Callable[[int], Any] = lambda rank: None
) -> list[Child]:
    """Run ``grow`` in forks.

    Args:
        arguments: of the command line.
        log: where standard error goes, with the rank behind its name.
        count: number of ranks.
        prepare: called with the rank, in the fork, first.
    """
    port = free_port()

    def be(rank: int) -> None:
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(count),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
            TORCHELASTIC_RUN_ID="test",
        )
        prepare(rank)

    return [start(arguments, log.with_suffix(f".{rank}"), lambda rank=rank: be(rank)) for rank in range(count)]  # type: ignore[misc]
