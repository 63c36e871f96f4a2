"""The hidden folder beside a destination that a growth works in, which belongs to one process at a
time.

``.NAME.growing`` holds ``new`` (the result while it is written), ``old`` (the model that was there,
where the file system cannot exchange two folders in one step) and ``writer.json`` (whose it is). The
writer keeps a lock on that file. The system takes the lock away when the process dies, however it
dies, so a workspace without a lock is a leftover: the next growth into the same place puts ``old``
back if the destination is gone, and removes the rest. Between machines that share a file system a
lock can be unknown to the other machine, so what another machine left is named and not touched.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from growth.checkpoint.durable import force_one
from growth.checkpoint.interrupts import parted, unparted
from growth.errors import CheckpointError
from growth.hf.paths import moved_aside, workspace_of
from growth.text import readable
from growth.version import __version__

_HELD, _FREE, _UNKNOWN = "held", "free", "unknown"
_PARTS = ("new", "old", "writer.json")
_log = logging.getLogger(__name__)


@contextmanager
def claimed(target: Path) -> Iterator[Path]:
    """The workspace of a destination, held for this process, and removed when the block ends.

    What an interrupted growth left there is dealt with first (see `recover`).

    Raises:
        CheckpointError: another process works there, or may do so.
        OSError: it cannot be made.
    """
    folder = workspace_of(target)
    with unparted():
        lock = _claim(folder, target)
        try:
            _sign(lock)
            if done := _settle(folder, target):
                _log.warning("%s", done)
            with parted():
                yield folder
        finally:
            try:
                _empty(folder, target)
            except KeyboardInterrupt:  # Python's own; it must not leave what this removes
                _empty(folder, target)
                raise
            finally:
                os.close(lock)
                _drop(folder, target)


def recover(target: Path) -> None:
    """Deal with what an interrupted growth into ``target`` left: put the old model back if the
    destination is gone, and remove the rest. What was done is logged as a warning.

    Raises:
        CheckpointError: another process is writing there, or may be.

    Example:
        >>> recover(Path("out/wide"))
        removed out/.wide.growing (3.62 GB), which an interrupted growth into out/wide left
    """
    if target.name and os.path.lexists(workspace_of(target)):
        try:
            with claimed(target):
                pass
        except OSError as error:
            raise CheckpointError(
                f"{workspace_of(target)}, which an interrupted growth left, could not be looked into "
                f"({error.strerror or error}). Remove it, or name another folder."
            ) from error


def leftover(target: Path) -> str:
    """What is to be said of a workspace that is still there though its growth has ended; empty if
    it is gone."""
    folder = workspace_of(target)
    if (old := moved_aside(target)) is not None:
        return f"the model that was there is in {old}, and the next growth into {target} moves it back"
    if os.path.lexists(folder):
        return f"{folder} could not be removed, and the next growth into {target} removes it"
    return ""


def _claim(folder: Path, target: Path) -> int:
    """Take the lock of a workspace, which is made if need be. Returns its descriptor."""
    while True:
        try:
            folder.mkdir()
            found = False
        except FileExistsError:
            found = True
        try:
            if found:
                _check_ours(folder)
            lock, made = _open(folder / "writer.json")
        except FileNotFoundError:  # its owner has just finished
            continue
        except OSError:
            with suppress(OSError):  # it is not empty
                os.rmdir(folder)
            raise
        try:
            state = _try_lock(lock)
            record = _record(lock)
            if state == _UNKNOWN:
                state = _FREE if made else _state_without_locks(record)
            elif state == _FREE and not made and _elsewhere(record):
                state = _UNKNOWN
            if state != _FREE:
                raise CheckpointError(_occupied(folder, target, state, record))
            if _same_file(lock, folder / "writer.json"):
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)  # of a workspace that was removed in the meantime


def _settle(folder: Path, target: Path) -> str:
    """Put the old model back if the destination is missing, and remove everything else but the
    lock. Returns what was found and done; empty where there was nothing."""
    old, new = folder / "old", folder / "new"
    found = ""
    if os.path.lexists(old) and not os.path.lexists(target):
        os.rename(old, target)
        force_one(target.parent)
        found = f"the model of {target} is back: an interrupted growth with --overwrite had moved it to {old}"
    if there := [path for path in (new, old) if os.path.lexists(path)]:
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


def _check_ours(folder: Path) -> None:
    """Refuse a folder in the workspace's place that growth has not made, or another user has."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise CheckpointError(f"{folder} is in the way: growth works in a folder of that name. Move it elsewhere.")
    if foreign := sorted(path.name for path in folder.iterdir() if path.name not in _PARTS):
        raise CheckpointError(
            f"{folder} is in the way: growth works in a folder of that name, and this one holds '{foreign[0]}', which "
            "growth did not write. Move it elsewhere."
        )
    if sys.platform != "win32" and found.st_uid != os.geteuid():
        raise CheckpointError(
            f"{folder} belongs to another user, whose growth into the same place runs or was interrupted. Name "
            "another folder, or remove that one if it is of no use."
        )


def _open(path: Path) -> tuple[int, bool]:
    """A descriptor of the file of a workspace's writer, and whether it is new."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
    except FileExistsError:
        return os.open(path, os.O_RDWR), False


def _try_lock(lock: int) -> str:
    """Whether the lock was taken (``free``), another process has it, or there are no locks here."""
    if sys.platform == "win32":
        return _UNKNOWN
    import fcntl  # which Windows does not have

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return _HELD if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else _UNKNOWN
    return _FREE


def _state_without_locks(record: dict[str, Any]) -> str:
    """The same by the number of the process, which only tells that one on this machine is gone."""
    if sys.platform == "win32" or _elsewhere(record) or not isinstance(record.get("pid"), int):
        return _UNKNOWN
    try:
        os.kill(record["pid"], 0)
    except ProcessLookupError:
        return _FREE
    except OSError:
        return _UNKNOWN
    return _UNKNOWN


def _elsewhere(record: dict[str, Any]) -> bool:
    """Whether it was written on another machine: one of another name and another running system.
    Containers of one machine have names of their own, and a machine that has started anew is
    another running system of the same name."""
    boot = _boot()
    here = record.get("host") == socket.gethostname() or (boot and record.get("boot") == boot)
    return bool(record) and not here


def _boot() -> str:
    """The number that Linux gives itself at every start; empty on other systems."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _record(lock: int) -> dict[str, Any]:
    try:
        read = json.loads(os.read(lock, 1 << 16))
    except ValueError:  # empty, or cut short
        return {}
    return read if isinstance(read, dict) else {}


def _sign(lock: int) -> None:
    record = {"pid": os.getpid(), "host": socket.gethostname(), "boot": _boot(), "growth": __version__}
    os.ftruncate(lock, 0)
    os.lseek(lock, 0, os.SEEK_SET)
    os.write(lock, json.dumps(record).encode())


def _same_file(lock: int, path: Path) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(lock), there)


def _occupied(folder: Path, target: Path, state: str, record: dict[str, Any]) -> str:
    who = f"process {record['pid']} on {record['host']}" if {"pid", "host"} <= record.keys() else "another process"
    if state == _HELD:
        return f"{who} is writing {target} at this moment. Name another folder, or wait for it."
    return (
        f"{folder} is the workspace of {who}, and it cannot be told from here whether that one still runs. Remove the "
        "folder if it does not, or name another destination."
    )
