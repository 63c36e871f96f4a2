"""Whose a workspace is: the lock on its ``writer.json``, which the system takes away when the process
dies, however it dies. Where there are no locks, the number of the process decides, and what another
machine left is nobody's to touch."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from growth.errors import CheckpointError
from growth.version import __version__

_HELD, _FREE, _UNKNOWN = "held", "free", "unknown"
_PARTS = re.compile(r"new(-[0-9a-f]+)?|finished|old|writer\.json")
"""What a workspace holds."""


def claim(folder: Path, target: Path) -> int:
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


def _check_ours(folder: Path) -> None:
    """Refuse a folder in the workspace's place that growth has not made, or another user has."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise CheckpointError(f"{folder} is in the way: growth works in a folder of that name. Move it elsewhere.")
    if foreign := sorted(path.name for path in folder.iterdir() if not _PARTS.fullmatch(path.name)):
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


def sign(lock: int) -> None:
    """Write down who holds the lock."""
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
        f"{folder} is the workspace of {who}, and it cannot be told from here whether that one still runs. Remove "
        f"{folder / 'writer.json'} if it does not, or name another destination."
    )
