"""Several processes that grow one model together: what one of them cannot do, none of them does.

Before anything in which all take part (a gather, a run of the model) the ranks meet: each says what it
is about to do, or why it stops. So an error on one rank ends the growth on all of them, and none is left
waiting for the others. (Between two meetings, inside a forward pass, an error of one rank alone does to the
others what it does in training: they wait for it until its process ends, so that one waits for them for
`PATIENCE` alone.)
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from torch import distributed

from growth.errors import GrowthError, class_named


class Elsewhere(Exception):
    """Another rank has stopped, or is about to do something else. It passes through whatever handles
    the errors of a model, and `Ranks.report` says it in the caller's words."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


PATIENCE = timedelta(seconds=60)
"""How long a rank on which something failed waits for the others."""


def grouped() -> bool:
    """Whether there is a default process group."""
    return bool(distributed.is_available() and distributed.is_initialized())


class Ranks:
    """The processes of the default group. They meet in a group of their own, so that one that is early does
    not take what another sends in a forward pass for an answer. Every rank makes it at the same time."""

    def __init__(self) -> None:
        self._size = distributed.get_world_size()
        self._group = distributed.new_group(backend="gloo" if distributed.is_gloo_available() else None)
        self._failed, self._lost = "", False

    def close(self) -> None:
        """Leave the group."""
        distributed.destroy_process_group(self._group)

    def meet(self, doing: str, error: Exception | None = None, failed: str = "") -> str:
        """Wait for all ranks, and go on if all go on with the same.

        Args:
            doing: what this rank is about to do.
            error: why it stops instead.
            failed: what failed on this rank, and does not stop it.

        Returns:
            What failed, on the first rank where something did.

        Raises:
            Elsewhere: on a rank without an error, if another has one; on every rank, if they are about
                to do different things; on a rank to which the others do not come.
        """
        if self._lost and error is not None:
            return ""
        self._failed = failed or self._failed
        said: list[Any] = [None] * self._size
        stops = None if error is None else (type(error).__name__, str(error))
        alone = error is not None or failed
        if alone:
            self._wait_for(PATIENCE)
        try:
            distributed.all_gather_object(said, (doing, stops, failed, self._failed), group=self._group)
        except RuntimeError as cut:
            self._lost = True
            if error is not None:
                return ""
            raise Elsewhere(
                "GrowthError",
                f"the other ranks do not answer ({str(cut)[:200]}). What failed on rank {distributed.get_rank()}: "
                f"{self._failed or 'nothing'}. Look for the first error on each rank, and start all of them again.",
            ) from cut
        if error is not None:
            return ""
        for rank, (_, other, *_) in enumerate(said):
            if other is not None:
                kind, message = other
                told = message if class_named(kind) is not None and kind != "GrowthError" else f"{kind}: {message}"
                raise Elsewhere(kind, f"rank {rank} stopped, and so did all: {told}")
        for rank, (other, *_) in enumerate(said):
            if other != said[0][0]:
                one, two = _apart(said[0][0], other)
                before = next((f" (before that, on rank {r}: {why})" for r, (*_, why) in enumerate(said) if why), "")
                raise Elsewhere(
                    "GrowthError",
                    f"the ranks do not do the same: rank 0 '{one}', rank {rank} '{two}'{before}. Call growth.widen "
                    "on every rank with the same model, optimizer and arguments.",
                )
        if alone:
            self._wait_for(distributed.constants.default_pg_timeout)
        return next((f"{why} (rank {rank})" for rank, (_, _, why, _) in enumerate(said) if why), "")

    def _wait_for(self, time: timedelta) -> None:
        """How long to wait for the others in the group."""
        from torch.distributed.distributed_c10d import _set_pg_timeout  # private, and needed where something failed

        _set_pg_timeout(time, self._group)

    @staticmethod
    def report(error: Elsewhere) -> GrowthError:
        """The error for the caller of a rank that had none itself."""
        return (class_named(error.kind) or GrowthError)(str(error))


def _apart(one: str, other: str) -> tuple[str, str]:
    """Two texts, cut to where they part if they are long."""
    if max(len(one), len(other)) <= 2 * _SHOWN:
        return one, other
    same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    start = max(0, same - _SHOWN // 2)
    cut = [("... " if start else "") + text[start : start + _SHOWN] for text in (one, other)]
    return cut[0], cut[1]


_SHOWN = 160
"""How much of a long text is shown."""
