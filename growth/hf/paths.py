"""A path as people write it (``~/models/small``), and the folder beside a destination that a growth
works in until the result is whole."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from growth.errors import CheckpointError

_LONGEST = 100
"""Bytes of a destination's name that its workspace repeats; file systems allow 255, some of them 143."""


def local_path(path: str | os.PathLike[str]) -> Path:
    """A path with ``~`` and ``~user`` replaced by the home folder, as a shell does it.

    Raises:
        CheckpointError: for what no file system can hold, and for a user without a home folder.

    Example:
        >>> local_path("~/models/small")
        PosixPath('/home/me/models/small')
    """
    written = os.fspath(path)
    if "\0" in written:
        raise CheckpointError(f"a path cannot hold a NUL byte, as {written!r} does. Name another folder.")
    try:
        os.fsencode(written)
    except UnicodeEncodeError as error:
        raise CheckpointError(
            f"{written!r} cannot be the name of a file here ({error.reason}). Name another folder."
        ) from error
    expanded = os.path.expanduser(written)
    if expanded.startswith("~"):
        raise CheckpointError(
            f"'{written}' names no folder: the user after '~' has no home folder here. Name the folder in full, or "
            f"as './{written}' if it is really called so."
        )
    return Path(expanded)


def workspace_of(target: Path) -> Path:
    """The folder that a growth into ``target`` works in: in the same parent, since a rename stays in
    one file system. There is one for each destination, so that two growths into the same place meet.

    Example:
        >>> workspace_of(Path("out/wide"))
        PosixPath('out/.wide.growing')
    """
    name = os.fsencode(target.name)
    if len(name) > _LONGEST:
        name = name[: _LONGEST - 13].decode("utf-8", "ignore").encode() + b"-" + _digest(name)[:12]
    return target.with_name(f".{os.fsdecode(name)}.growing")


def _digest(name: bytes) -> bytes:
    return hashlib.sha256(name).hexdigest().encode()


def moved_aside(target: Path) -> Path | None:
    """Where the model lies that an interrupted growth with ``--overwrite`` took away from
    ``target``; None if none did."""
    target = target.absolute()
    if not target.name or os.path.lexists(target):
        return None
    old = workspace_of(target) / "old"
    return old if os.path.lexists(old) else None
