"""A destination folder that appears whole or not at all.

The result is written into a workspace beside the destination, forced to the disk, and then renamed,
which the file system does in one step. A process that is killed leaves the workspace, never half a
result, and the next growth into the same place deals with it (`growth.checkpoint.workspace`).
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from growth.checkpoint.durable import exchanged, force, force_one
from growth.checkpoint.model_folder import foreign_entries, looks_like_a_model
from growth.checkpoint.private import folder_mode, keep_private
from growth.checkpoint.workspace import claimed, leftover, recover, unfinished_result
from growth.errors import CheckpointError
from growth.hf.paths import local_path

_SHOWN = 3
_STEPS = {
    errno.ECONNRESET: "start all ranks",
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free some space"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "check who may write there"),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG), "name another folder"),
}


def destination(dst: str | os.PathLike[str]) -> Path:
    """The absolute path of a destination as a caller names it, ``~`` expanded.

    Raises:
        CheckpointError: it cannot be the name of a folder.
    """
    if not os.fspath(dst):
        raise CheckpointError("the name of the destination is empty. Name the folder to make.")
    path = local_path(dst)
    try:
        return Path(os.path.abspath(path))
    except OSError as error:
        raise CheckpointError(f"{path} names no place: the working directory is gone. Use a full path.") from error


@contextmanager
def appearing(
    target: Path,
    overwrite: bool,
    source: Path | None = None,
    resume: Callable[[Path], None] | None = None,
    shared: bool = False,
) -> Iterator[Path]:
    """A temporary folder that becomes ``target`` when the block ends, and is deleted if it fails.

    Args:
        target: the destination; parent folders that do not exist are made.
        overwrite: whether a model that is there is replaced. It is put back if that fails.
        source: the folder that the result is made of; nobody may read more of the result than of
            that (`growth.checkpoint.private`). A model that is replaced gives its own permissions.
        resume: to go on with what an interrupted growth left (`growth.checkpoint.workspace.claimed`).
        shared: whether other processes write into the folder too. It then has a name of its own.

    Yields:
        The temporary folder, in the same parent folder, to write into.

    Raises:
        CheckpointError: a failure of the file system (OSError) inside the block or while renaming;
            another process that writes to the same place.

    Example:
        >>> with appearing(Path("wide"), overwrite=False) as folder:
        ...     (folder / "config.json").write_text("{}")
    """
    made = [parent for parent in (target.parent, *target.parent.parents) if not parent.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with claimed(target, resume) as workspace:
            _check_place(target, overwrite)
            folder = workspace / (f"new-{secrets.token_hex(8)}" if shared else "new")
            if (begun := unfinished_result(workspace)) is not None and begun != folder:
                os.rename(begun, folder)
            folder.mkdir(0o777 if source is None else folder_mode(source), exist_ok=resume is not None)
            yield folder
            if source is not None:
                keep_private(folder, source)
            if target.is_dir():
                folder.chmod(target.stat().st_mode & 0o7777)
            force(folder)
            _check_place(target, overwrite)
            _take_place(folder, target, workspace / "old", [parent.parent for parent in made])
    except BaseException as error:
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        if isinstance(error, OSError):
            raise CheckpointError(_not_written(target, error)) from error
        raise


def _take_place(folder: Path, target: Path, aside: Path, parents: list[Path]) -> None:
    """Rename a finished folder to the destination. Whatever goes wrong, the destination is then what
    it was before.

    Args:
        folder: the finished one.
        target: the destination. What is there ends up as ``folder``, or as ``aside`` where the file
            system cannot exchange the two in one step.
        aside: the path for the latter.
        parents: folders that got a new entry on the way to ``target``.
    """
    new = os.lstat(folder)
    try:
        if not os.path.lexists(target):
            os.rename(folder, target)
        elif not exchanged(folder, target):
            os.rename(target, aside)
            os.rename(folder, target)
        for parent in (target.parent, *parents):
            force_one(parent)
    except BaseException:
        if os.path.lexists(target) and os.path.samestat(os.lstat(target), new):
            if os.path.lexists(folder):
                exchanged(folder, target)
            else:
                os.rename(target, folder)
        if os.path.lexists(aside) and not os.path.lexists(target):
            os.rename(aside, target)
        raise


def _not_written(target: Path, error: OSError) -> str:
    where = f" ({error.filename})" if error.filename not in (None, str(target)) else ""
    left = leftover(target)
    step = _STEPS.get(error.errno or 0, "check the disk")
    return (
        f"{target} could not be written: {error.strerror or error}{where}. {left or 'Nothing was left behind'}; "
        f"{step} and try again."
    )


def check_target(target: Path, overwrite: bool, resume: bool = False) -> None:
    """Refuse a destination that exists, unless it is an empty folder, or a model that may be
    overwritten. Before that, what an interrupted growth left in this place is put right; with
    ``resume`` what it finished stays.

    Raises:
        CheckpointError: the target exists, or is being written by another process.
    """
    recover(target, keep=resume)
    _check_place(target, overwrite)


def _check_place(target: Path, overwrite: bool) -> None:
    try:
        if refusal := _refusal(target, overwrite):
            raise CheckpointError(f"{target} {refusal}")
    except OSError as error:
        raise CheckpointError(
            f"{target} cannot be a destination: {error.strerror or error}. Name another folder."
        ) from error


def _refusal(target: Path, overwrite: bool) -> str:
    """Why what is at a path may not be replaced, with the next step; empty if it may, or if nothing
    is there."""
    try:
        os.lstat(target)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if os.path.ismount(target):
        return "is a mount point, which cannot be replaced. Name a folder in it."
    empty = not target.is_symlink() and target.is_dir() and not any(target.iterdir())
    beyond = _never_replaced(target, empty)
    if empty or overwrite:
        return beyond
    return f"exists and was kept as it is. Name another folder{'' if beyond else ', or replace it with --overwrite'}."


def _never_replaced(target: Path, empty: bool) -> str:
    """Why not even ``--overwrite`` replaces what is at a path, with the next step; empty if it does."""
    if not empty and not looks_like_a_model(target):
        return (
            "exists and does not look like a model (weights, and a config.json with a model_type), so --overwrite did "
            "not replace it. Name another folder."
        )
    if not empty and (found := foreign_entries(target)):
        more = f" (and {len(found) - _SHOWN} more)" if len(found) > _SHOWN else ""
        return (
            f"holds what the folder of a model does not: {', '.join(found[:_SHOWN])}{more}. --overwrite would delete "
            "it, so nothing was replaced. Move it elsewhere, or name another folder."
        )
    if os.path.samefile(target, os.curdir):
        return "is the working directory, which cannot be replaced. Name another folder, or work from elsewhere."
    if not os.access(target, os.W_OK):
        return "is write-protected, so it was not replaced. Name another folder."
    return ""


def check_apart(source: Path, target: Path) -> None:
    """Refuse a destination that is the source, lies inside it, or contains it.

    Raises:
        CheckpointError: the two are not apart.
    """
    a, b = source.resolve(), target.resolve()
    if a == b or a in b.parents or b in a.parents:
        raise CheckpointError(
            f"destination {target} and source {source} are the same folder, or one lies inside the other, and the "
            "source must not change. Name a folder elsewhere."
        )


def check_space(folder: Path, size: int) -> None:
    """Refuse to start if the disk is too small.

    Args:
        folder: where the result will be; it need not exist.
        size: of the result in bytes. 50 MB are added for everything else.

    Raises:
        CheckpointError: too little free space.
    """
    while not folder.exists():
        folder = folder.parent
    free, needed = shutil.disk_usage(folder).free, size + 50_000_000
    if free < needed:
        raise CheckpointError(
            f"not enough disk space in {folder}: {needed / 1e9:.2f} GB needed, {free / 1e9:.2f} GB free. Free some, "
            "or choose another disk."
        )
