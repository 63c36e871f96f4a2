"""Workers of one process: threads that write shards, or blocks of one shard, side by side.

PyTorch computes outside of Python's lock, so threads use the cores. Each of them computes with one
thread of PyTorch's own: its threads wait for each other after every small step, which on a busy
machine costs far more than it gains. What is written does not depend on the number of workers."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from growth.weights.blocks import Each

T = TypeVar("T")
R = TypeVar("R")

BLOCKS = 300_000_000
"""Bytes that a worker needs for the blocks it works on, whatever the model is."""


class GivenUp(Exception):
    """Raised in a worker, since another one failed."""


class Stop:
    """Tells workers that one of them failed.

    Args:
        marker: a file whose existence says so to other processes; None where there are none.
    """

    def __init__(self, marker: Path | None = None) -> None:
        self._event, self._marker = threading.Event(), marker

    def set(self) -> None:
        """Let the workers of this process give up."""
        self._event.set()

    def set_everywhere(self) -> None:
        """Let those of all processes give up."""
        self.set()
        if self._marker is not None:
            self._marker.touch()

    def check(self) -> None:
        """Raise `GivenUp` if a worker of this process failed."""
        if self._event.is_set():
            raise GivenUp

    def check_everywhere(self) -> None:
        """Raise `GivenUp` if a worker of any process failed, which costs a look at the disk."""
        self.check()
        if self._marker is not None and self._marker.exists():
            raise GivenUp


@dataclass(frozen=True)
class Workers:
    """How many workers there are.

    Args:
        lanes: number of shards that are written at a time.
        blocks: number of blocks of each of them that are computed at a time.
    """

    lanes: int
    blocks: int


def workers_for(jobs: int | None, shards: int, largest: int) -> Workers:
    """How the workers are divided. Memory allows for so many shards at a time, each of which holds one
    tensor; what is left of the workers computes blocks.

    Args:
        jobs: number of workers; None for one for each of the cores that PyTorch uses (which
            ``OMP_NUM_THREADS`` bounds), as far as memory allows.
        shards: number of shards to write.
        largest: bytes of the largest grown tensor.
    """
    memory = free_memory()
    count = jobs or max(1, min(torch.get_num_threads(), memory // BLOCKS))
    lanes = max(1, min(count, shards, memory // (2 * largest + BLOCKS)))
    return Workers(lanes, count // lanes)


def free_memory() -> int:
    """Bytes of memory that can be had without swapping, as the system says, and the container the process
    runs in."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):  # not Linux
        known = {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= getattr(os, "sysconf_names", {}).keys()
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 if known else 1 << 32
    try:
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / name).read_text(encoding="ascii") for name in ("memory.max", "memory.current"))
        return min(free, max(0, int(limit) - int(used)))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return free


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let PyTorch compute with one thread in each thread of the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def side_by_side(work: Callable[[T], R], items: Sequence[T], lanes: int, stop: Stop) -> list[R]:
    """``[work(item) for item in items]`` by several threads.

    Args:
        work: of one item; it raises `GivenUp` soon after ``stop`` is set.
        items: to work on, in order.
        lanes: number of threads; with 1, no thread is started.
        stop: set here when a piece of work fails, or when this thread is interrupted.

    Raises:
        Exception: the first error of any piece of work.
    """
    if lanes <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(lanes) as pool:
        futures: list[Future[R]] = []
        failed = True
        try:
            futures += [pool.submit(work, item) for item in items]
            failed = any(future.exception() for future in wait(futures, return_when=FIRST_EXCEPTION).done)
        finally:
            if failed:
                stop.set()
                pool.shutdown(cancel_futures=True)
    errors = [future.exception() for future in futures if not future.cancelled()]
    for error in sorted(filter(None, errors), key=lambda error: isinstance(error, GivenUp)):
        raise error
    return [future.result() for future in futures]


@contextmanager
def mapping(threads: int) -> Iterator[Each]:
    """`map` by several threads, each of which may be two results ahead of what is asked for: results that
    wait take memory. With 1 thread, `map` itself."""
    if threads <= 1:
        yield map
        return
    with ThreadPoolExecutor(threads) as pool:

        def each(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
            waiting: deque[Future[R]] = deque()
            try:
                for item in items:
                    waiting.append(pool.submit(function, item))
                    if len(waiting) == 2 * threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

        yield each
