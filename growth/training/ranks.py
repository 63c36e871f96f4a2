"""Several processes that grow one model together: what one of them cannot do, none of them does.

Before anything in which all take part (a gather, a run of the model) the ranks meet: each says what it
is about to do, or why it stops. So an error on one rank ends the growth on all of them, and none is left
waiting for the others. (Between two meetings, inside a forward pass, an error of one rank alone does to the
others what it does in training: the process group ends them.)
"""

from __future__ import annotations

from typing import Any

from torch import distributed

from growth import errors
from growth.errors import GrowthError


class Elsewhere(Exception):
    """Another rank has stopped, or is about to do something else. It passes through whatever handles
    the errors of a model, and `Ranks.report` says it in the caller's words."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Ranks:
    """The processes of the default group."""

    def __init__(self) -> None:
        self._rank, self._size = distributed.get_rank(), distributed.get_world_size()

    def meet(self, doing: str, error: Exception | None = None) -> None:
        """Wait for all ranks, and go on if all go on with the same.

        Args:
            doing: what this rank is about to do.
            error: why it stops instead.

        Raises:
            Elsewhere: on a rank without an error, if another has one; on every rank, if they are about
                to do different things.
        """
        said: list[Any] = [None] * self._size
        stops = None if error is None else (type(error).__name__, str(error))
        distributed.all_gather_object(said, (doing, stops))
        if error is not None:
            return
        for rank, (_, other) in enumerate(said):
            if other is not None:
                kind, message = other
                told = (
                    message if issubclass(_kind(kind), GrowthError) and kind != "GrowthError" else f"{kind}: {message}"
                )
                raise Elsewhere(kind, f"rank {rank} stopped, and so did all: {told}")
        for rank, (other, _) in enumerate(said):
            if other != said[0][0]:
                raise Elsewhere(
                    "GrowthError",
                    f"the ranks do not do the same: rank 0 '{said[0][0]}', rank {rank} '{other}'. Call growth.widen "
                    "on every rank with the same model, optimizer and arguments.",
                )

    @staticmethod
    def report(error: Elsewhere) -> GrowthError:
        """The error for the caller of a rank that had none itself."""
        return _kind(error.kind)(str(error))


def _kind(name: str) -> type[GrowthError]:
    """The class of an error of this library by its name; the base for any other."""
    kind = getattr(errors, name, GrowthError)
    return kind if isinstance(kind, type) and issubclass(kind, GrowthError) else GrowthError
