"""Workers of one process: threads that write shards, or blocks of one shard, side by side.

PyTorch computes outside of Python's lock, so threads use the cores. Each of them computes with one
thread of PyTorch's own: its threads wait for each other after every small step, which on a busy
machine costs far more than it gains. What is written does not depend on the number of workers."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from growth.plan.plan import Plan
from growth.weights.blocks import Each
from growth.weights.grow import rows_per_block

T = TypeVar("T")
R = TypeVar("R")

OVERHEAD = 100_000_000
"""Bytes that a worker needs whatever it works on."""

PER_ELEMENT = 80
"""Bytes that a worker needs for every element of a block: the block in float64 and what is made of it on the
way, and results that wait to be written. Measured: 70 for experts of 16 million weights with noise."""


_EVERY = 2.0
"""Seconds between two looks at whether another process failed."""


class GivenUp(Exception):
    """Raised in a worker, since another one failed."""


class Stop:
    """Tells workers that one of them failed.

    Args:
        marker: a file whose existence says so to other processes; None where there are none.
    """

    def __init__(self, marker: Path | None = None) -> None:
        self._event, self._marker, self._looked = threading.Event(), marker, 0.0

    def set(self) -> None:
        """Let the workers of this process give up."""
        self._event.set()

    def set_everywhere(self) -> None:
        """Let those of all processes give up."""
        self.set()
        if self._marker is not None:
            with suppress(OSError):  # the folder is gone, or the disk full: that is what they are told of anyway
                self._marker.touch()

    def check(self) -> None:
        """Raise `GivenUp` if a worker of this process failed."""
        if self._event.is_set():
            raise GivenUp

    def check_everywhere(self) -> None:
        """Raise `GivenUp` if a worker of any process failed. Looks at the disk every few seconds."""
        self.check()
        if self._marker is not None and time.monotonic() > self._looked + _EVERY:
            self._looked = time.monotonic()
            if self._marker.exists():
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


def workers_for(jobs: int | None, shards: int, plan: Plan, largest: int, neighbours: int = 1) -> Workers:
    """How the workers are divided. Memory allows for so many shards at a time, each of which holds one
    tensor; what is left of the workers computes blocks.

    Args:
        jobs: number of workers, at most; None for one for each of the cores that PyTorch uses (which
            ``OMP_NUM_THREADS`` bounds).
        shards: number of shards to write.
        plan: of the model; it says how large the blocks of its tensors are.
        largest: bytes of the largest grown tensor.
        neighbours: number of processes on this machine that share its memory.
    """
    memory = free_memory() // neighbours
    shapes = {tensor.new_shape: rows_per_block(tensor) for tensor in plan.tensors.values()}
    block = max((min(rows, *shape[:1]) * math.prod(shape[1:]) for shape, rows in shapes.items() if shape), default=0)
    each = OVERHEAD + PER_ELEMENT * block
    count = max(1, min(jobs or torch.get_num_threads(), memory // each))
    lanes = max(1, min(count, shards, memory // (2 * largest + each)))
    return Workers(lanes, max(1, min(count // lanes, (memory // lanes - 2 * largest) // each)))


@contextmanager
def working_on(plan: Plan, tensors: Iterable[Tensor]) -> Iterator[Each]:
    """`mapping` by as many threads as PyTorch computes with, for a model in memory.

    Args:
        plan: of the model.
        tensors: its weights. If one is not on the CPU, this is `map`: a device computes side by side by
            itself.
    """
    if any(tensor.device.type != "cpu" for tensor in tensors):
        yield map
        return
    workers = workers_for(None, 1, plan, 0)
    with one_thread_each(), mapping(workers.blocks) as each:
        yield each


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
        stat = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
        return min(
            free, max(0, int(limit) - int(used) + int(stat.get("inactive_file", 0)))
        )  # a cache, which gives way
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
def mapping(threads: int, check: Callable[[], None] = lambda: None) -> Iterator[Each]:
    """`map` by several threads, each of which may be two results ahead of what is asked for: results that
    wait take memory. With 1 thread, in this one.

    Args:
        threads: how many.
        check: called before each item is worked on; it may raise, to give up.

    Example:
        >>> with mapping(3) as each:
        ...     list(each(abs, [-1, 2, -3]))
        [1, 2, 3]
    """

    def checked(function: Callable[[T], R]) -> Callable[[T], R]:
        def call(item: T) -> R:
            check()
            return function(item)

        return call

    def alone(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        return map(checked(function), items)

    if threads <= 1:
        yield alone
        return
    with ThreadPoolExecutor(threads) as pool:

        def each(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
            waiting: deque[Future[R]] = deque()
            try:
                for item in items:
                    waiting.append(pool.submit(checked(function), item))
                    if len(waiting) == 2 * threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

        yield each
