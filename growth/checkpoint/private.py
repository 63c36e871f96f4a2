"""Who may read a result: no more than may read its source.

A copy made by ``cp -r`` is as private as what it copies, and so is a wider model: its folder has the
permissions of the source folder; its weights have those that all weight files of the source have,
and its other files those of all others. The process's umask withholds what it does anywhere."""

from __future__ import annotations

from pathlib import Path

from growth.hf.companion_names import is_weights
from growth.hf.fsdp_folder import FSDP

_OWNER_OF_FOLDER, _OWNER_OF_FILE, _PERMISSIONS = 0o700, 0o600, 0o777


def folder_mode(source: Path) -> int:
    """The permissions of a folder for what is made of ``source``, before the umask."""
    return source.stat().st_mode & _PERMISSIONS | _OWNER_OF_FOLDER


def keep_private(folder: Path, source: Path) -> None:
    """Take from every file in ``folder`` the permissions that not all files of ``source`` of its kind
    (weights, others) give.

    Args:
        folder: the result; what lies in folders in it is meant too.
        source: the folder it was made of.
    """
    common = {True: _PERMISSIONS, False: _PERMISSIONS}
    for path in (*source.iterdir(), *(path for name in FSDP for path in source.glob(f"{name}/*"))):
        if path.is_file():
            common[_holds_weights(path)] &= path.stat().st_mode
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(path.stat().st_mode & (common[_holds_weights(path)] | _OWNER_OF_FILE))


def _holds_weights(path: Path) -> bool:
    return is_weights(path.name) or path.parent.name in FSDP or path.name in FSDP
