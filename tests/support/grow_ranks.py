"""``grow`` as several ranks: forks of this process with the environment that torchrun gives, and a real
process group between them."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from forked import Child, start

_ports = count(20000 + 50 * (os.getpid() % 200))


def free_port() -> int:
    """A port to meet at, below those that the system gives to whoever asks for any (from 32768): it is
    chosen now and listened at later, and must not be given away in between."""
    for port in _ports:
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("count() does not end")


def start_ranks(
    arguments: list[str], log: Path, ranks: int = 2, prepare: Callable[[int], Any] = lambda rank: None
) -> list[Child]:
    """Run ``grow`` in forks.

    Args:
        arguments: of the command line.
        log: where standard error goes, with the rank behind its name.
        ranks: their number.
        prepare: called with the rank, in the fork, first.
    """
    port = free_port()

    def be(rank: int) -> None:
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(ranks),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
            TORCHELASTIC_RUN_ID="test",
        )
        prepare(rank)

    return [start(arguments, log.with_suffix(f".{rank}"), lambda rank=rank: be(rank)) for rank in range(ranks)]  # type: ignore[misc]
