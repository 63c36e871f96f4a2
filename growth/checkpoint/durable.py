"""Files that are still there after a power failure, and two folders that change places in one step.

A rename can reach the disk before the bytes of what was renamed, and then a power failure leaves
empty files under the new name. So the order is: the files, their folders, the rename, the folder
that holds both names; and only after that is the old model removed.

References:
    T. S. Pillai et al., "All File Systems Are Not Created Equal: On the Complexity of Crafting
    Crash-Consistent Applications", OSDI 2014.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

_AT_FDCWD = -100
_EXCHANGE = 2
"""The flag of both systems: RENAME_EXCHANGE on Linux, RENAME_SWAP on macOS."""
_UNABLE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)
"""What a file system says that has no such operation."""


def force(folder: Path) -> None:
    """Wait until a folder and everything in it is on the disk."""
    for path in (*folder.rglob("*"), folder):
        force_one(path)


def force_one(path: Path) -> None:
    """Wait until one file, or the names that a folder holds, are on the disk."""
    if sys.platform == "win32":  # which opens no folders, and syncs only what is open for writing
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in _UNABLE:
            raise
    finally:
        os.close(opened)


def exchanged(one: Path, other: Path) -> bool:
    """Let two paths change places in one step, so that at no moment one of them is missing.

    Returns:
        False where the system or the file system cannot do it; nothing has changed then.

    Raises:
        OSError: it can, but failed.
    """
    if sys.platform not in ("linux", "darwin"):
        return False
    library = ctypes.CDLL(None, use_errno=True)
    names = (os.fsencode(one), os.fsencode(other))
    try:
        if sys.platform == "darwin":
            failed = library.renamex_np(*names, _EXCHANGE)
        else:
            failed = library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _EXCHANGE)
    except AttributeError:  # a C library from before the call
        return False
    if failed:
        number = ctypes.get_errno()
        if number in _UNABLE:
            return False
        raise OSError(number, os.strerror(number), str(one), None, str(other))
    return True
