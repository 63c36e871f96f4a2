"""Several processes that write one result: the ranks of a `torch.distributed` process group.

All make the same call. Each plans by itself, and all must come to the same plan. Rank 0 proves it,
makes the folder, tells the others where, and renames it at the end; all write shards in turn. The
ranks are on one machine, or on several that share the file system of source and destination.

What fails on one rank fails on all: after each step every rank hears of the errors of the others. A
rank that is killed takes its connections with it, which the others find at the next step."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist

from growth.errors import CheckpointError, IllegalGrowthError, class_named
from growth.weights.workers import GivenUp

T = TypeVar("T")

Said = tuple[str, tuple[Any, ...]]
GIVEN_UP: Said = (GivenUp.__name__, ())
LOST = "another rank of this growth has ended, or has not answered within the timeout of the process group"


class Ranks:
    """This process among those that write a result.

    Args:
        group: the process group; None for a process that works alone.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group
        self.rank, self.count = (0, 1) if group is None else (dist.get_rank(group), dist.get_world_size(group))
        if self.rank < 0:
            raise IllegalGrowthError(
                "this process is not in the process group that was given as group=. Take the group whose ranks make "
                "the call."
            )

    def neighbours(self) -> int:
        """How many of the ranks are on this machine."""
        here = socket.gethostname()
        return self.gather(here).count(here)

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Say in a sentence what the system says, on the ranks that write no folder of their own."""
        try:
            yield
        except OSError as error:
            if self.group is None:
                raise
            raise CheckpointError(
                f"{error.strerror or error}{f' ({error.filename})' if error.filename else ''}. Start all ranks again, "
                "with --resume to keep what they finished."
            ) from error

    @property
    def first(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def share(self, items: list[T]) -> list[T]:
        """The items that are this rank's: each rank takes one in turn.

        Example:
            >>> Ranks().share(["a", "b"])
            ['a', 'b']
        """
        return items[self.rank :: self.count]

    def gather(self, value: T) -> list[T]:
        """The value of every rank, in order, on every rank."""
        if self.group is None:
            return [value]
        gathered: list[Any] = [None] * self.count
        with _reachable():
            dist.all_gather_object(gathered, value, group=self.group)
        return gathered

    def tell(self, value: T | None) -> T:
        """The value of rank 0, on every rank."""
        held: list[Any] = [value]
        if self.group is not None:
            with _reachable():
                dist.broadcast_object_list(held, dist.get_global_rank(self.group, 0), group=self.group)
        return held[0]  # type: ignore[no-any-return]

    @contextmanager
    def agreeing(self) -> Iterator[None]:
        """A step that all ranks take: if it fails on any, it fails on all.

        Raises:
            Exception: on the ranks where it did not fail, the error of the first where it did.
        """
        if self.group is None:
            yield
            return
        own: Exception | None = None
        try:
            yield
        except Exception as error:  # whatever it is, the others wait to hear of it
            own = error
        failed = [
            (rank, said) for rank, said in enumerate(self.gather(own and _described(own))) if said and said != GIVEN_UP
        ]
        if own is not None and (not failed or not isinstance(own, GivenUp)):
            raise own
        if failed:
            raise _again(*failed[0][1], f"rank {failed[0][0]} of {self.count}")

    @contextmanager
    def entering(self, make: Callable[[], AbstractContextManager[Path]]) -> Iterator[Path]:
        """A folder that rank 0 makes and finishes, for all ranks to write into.

        Args:
            make: what rank 0 enters at the beginning and leaves at the end. An error of any rank in
                the block is raised in there.
        """
        if self.group is None:
            with make() as folder:
                yield folder
            return
        yield from self._led(make) if self.first else self._following()

    def _led(self, make: Callable[[], AbstractContextManager[Path]]) -> Iterator[Path]:
        """`entering` on rank 0."""
        with ExitStack() as entered:
            with self.agreeing():
                folder = entered.enter_context(make())
            try:
                self.tell(folder)
                with self.agreeing():
                    yield folder
            except Exception as error:  # of whatever kind: what was made is cleaned up
                try:
                    if not entered.pop_all().__exit__(type(error), error, error.__traceback__):
                        raise
                finally:
                    with suppress(OSError):
                        self.gather(None)  # the others wait until this one has cleaned up
            with self.agreeing():
                entered.close()

    def _following(self) -> Iterator[Path]:
        """`entering` on the others."""
        with self.agreeing():
            pass  # rank 0 enters
        folder: Path = self.tell(None)
        try:
            with self.agreeing():
                yield folder
        except Exception:  # raised again
            with suppress(OSError):  # rank 0 may be gone
                self.gather(None)  # once it has cleaned up: torchrun ends all as soon as one has ended
            raise
        with self.agreeing():
            pass  # rank 0 leaves


def _described(error: Exception) -> Said:
    """An error as it can be sent to another rank: its class, by name, and what that is made of."""
    if isinstance(error, OSError):
        return "OSError", (error.errno, error.strerror or str(error), error.filename and str(error.filename))
    name = type(error).__name__
    if isinstance(error, GivenUp):
        return GIVEN_UP
    return (name, (str(error),)) if class_named(name) is not None else ("", (f"{name}: {error}",))


def _again(kind: str, arguments: tuple[Any, ...], where: str) -> Exception:
    """An error of another rank, to be raised here."""
    if kind == "OSError":
        return OSError(*arguments)
    if (known := class_named(kind)) is not None:
        return known(*arguments)
    return RuntimeError(f"{where} failed: {arguments[0]}")


@contextmanager
def _reachable() -> Iterator[None]:
    """Say in a sentence that another rank is gone."""
    try:
        yield
    except RuntimeError as error:
        raise ConnectionResetError(errno.ECONNRESET, LOST) from error
