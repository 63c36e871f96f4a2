"""The hidden folder beside a destination that a growth works in, which belongs to one process at a
time.

``.NAME.growing`` holds ``new`` (the result while it is written; where several processes write it, a name
that no other growth has, so that one of them which outlives the first cannot write into what comes
after), ``finished`` (which files of it are
whole, `growth.checkpoint.unfinished`), ``old`` (the model that was there, where the file system cannot
exchange two folders in one step) and ``writer.json`` (whose it is, `growth.checkpoint.workspace_lock`).
A workspace whose writer is dead is a leftover: the next growth into the same place puts ``old`` back if
the destination is gone, and removes the rest, or goes on with it where that is asked for. Between
machines that share a file system a lock can be unknown to the other machine, so what another machine
left is named and not touched.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from growth.checkpoint.durable import force_one
from growth.checkpoint.interrupts import parted, unparted
from growth.checkpoint.workspace_lock import claim, sign
from growth.errors import CheckpointError, GrowthError, ProofError
from growth.hf.paths import moved_aside, workspace_of
from growth.text import readable

_log = logging.getLogger(__name__)


@contextmanager
def claimed(target: Path, resume: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """The workspace of a destination, held for this process, and removed when the block ends.

    What an interrupted growth left there is dealt with first (see `recover`).

    Args:
        target: the destination.
        resume: to go on with what an interrupted growth left, and to leave what is finished if this one
            ends by anything but a ProofError. Called with the workspace before anything in it changes;
            where it raises, nothing does.

    Raises:
        CheckpointError: another process works there, or may do so.
        OSError: it cannot be made.
    """
    with _held(target) as folder:
        if resume is not None:
            resume(folder)
        keep = resume is not None
        try:
            if done := _settle(folder, target, keep):
                _log.warning("%s", done)
            with parted():
                yield folder
            keep = False
        except ProofError:  # what is finished may be wrong as well
            keep = False
            raise
        except GrowthError:
            if keep and finished_in(folder):
                _log.warning("%s", leftover(target))
            raise
        finally:
            if not keep or not finished_in(folder):
                _empty(folder, target)
            else:
                (folder / "writer.json").unlink(missing_ok=True)  # it ends on purpose, so any machine may go on


def recover(target: Path, keep: bool = False) -> None:
    """Deal with what an interrupted growth into ``target`` left: put the old model back if the
    destination is gone, and remove the rest. What was done is logged as a warning.

    Args:
        target: the destination.
        keep: leave what is finished of the new model, to go on with it.

    Raises:
        CheckpointError: another process is writing there, or may be.

    Example:
        >>> recover(Path("out/wide"))
        removed out/.wide.growing (3.62 GB), which an interrupted growth into out/wide left
    """
    if target.name and os.path.lexists(workspace_of(target)):
        try:
            with _held(target) as folder:
                try:
                    if done := _settle(folder, target, keep):
                        _log.warning("%s", done)
                finally:
                    if not keep or not finished_in(folder):
                        _empty(folder, target)
        except OSError as error:
            raise CheckpointError(
                f"{workspace_of(target)}, which an interrupted growth left, could not be looked into "
                f"({error.strerror or error}). Remove it, or name another folder."
            ) from error


def unfinished_result(folder: Path) -> Path | None:
    """Where in a workspace the result lies that was being written; None where there is none."""
    return next(iter(sorted(folder.glob("new*"))), None)


def finished_in(folder: Path) -> int:
    """How many files of the result a workspace holds whole."""
    new = unfinished_result(folder)
    notes = (folder / "finished").glob("*.safetensors.json")
    return 0 if new is None else sum((new / note.stem).is_file() for note in notes)


def held_bytes(target: Path) -> int:
    """The bytes of a result that an interrupted growth into ``target`` left; the next one that goes on
    with it keeps or removes them."""
    new = unfinished_result(workspace_of(target))
    return 0 if new is None else sum(path.stat().st_size for path in new.rglob("*") if path.is_file())


@contextmanager
def _held(target: Path) -> Iterator[Path]:
    """The workspace of a destination, claimed for this process; left when the block ends."""
    folder = workspace_of(target)
    with unparted():
        lock = claim(folder, target)
        try:
            try:
                sign(lock)
            except OSError:
                if not finished_in(folder):
                    _empty(folder, target)
                raise
            yield folder
        finally:
            os.close(lock)
            _drop(folder, target)


def leftover(target: Path) -> str:
    """What is to be said of a workspace that is still there though its growth has ended; empty if
    it is gone."""
    folder = workspace_of(target)
    if (old := moved_aside(target)) is not None:
        return f"the model that was there is in {old}, and the next growth into {target} moves it back"
    if number := finished_in(folder):
        return f"{number} finished files are in {folder}, and the same growth with --resume goes on from there"
    if os.path.lexists(folder):
        return f"{folder} could not be removed, and the next growth into {target} removes it"
    return ""


def _settle(folder: Path, target: Path, keep: bool = False) -> str:
    """Put the old model back if the destination is missing, and remove everything else but the lock;
    with ``keep`` not the new model, if a file of it is finished. Returns what was found and done; empty
    where there was nothing."""
    old, finished = folder / "old", folder / "finished"
    found = ""
    if os.path.lexists(old) and not os.path.lexists(target):
        os.rename(old, target)
        force_one(target.parent)
        found = f"the model of {target} is back: an interrupted growth with --overwrite had moved it to {old}"
    useless = [old] if keep and finished_in(folder) else [*folder.glob("new*"), finished, old]
    if there := [path for path in useless if os.path.lexists(path)]:
        size = sum(path.lstat().st_size for top in there for path in (top, *top.rglob("*")))
        removed = f"removed {folder} ({readable(size)}), which an interrupted growth into {target} left"
        found = f"{found}; {removed}" if found else removed
        for path in there:
            _remove(path)
    return found


def _empty(folder: Path, target: Path) -> None:
    """Remove what a workspace holds. What cannot be removed is left to the next growth."""
    try:
        _settle(folder, target)
        (folder / "writer.json").unlink(missing_ok=True)
    except OSError as error:
        _log.warning("%s: %s", error, leftover(target))
    except KeyboardInterrupt:  # Python's own; it must not leave what this removes
        _empty(folder, target)
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _drop(folder: Path, target: Path) -> None:
    """Remove an empty workspace, unless the next growth has claimed it already."""
    try:
        os.rmdir(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            _log.warning("%s: %s", error, leftover(target))
