"""A destination folder that appears whole or not at all.

The result is written into a temporary folder beside the destination and then renamed, which the
file system does in one step. A process that is killed leaves the temporary folder, never half a
result.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from growth.errors import CheckpointError


@contextmanager
def appearing(target: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary folder that becomes ``target`` when the block ends, and is deleted if it fails.

    Args:
        target: the destination; parent folders that do not exist are made.
        overwrite: whether a target that exists is replaced. It is put back if that fails.

    Yields:
        The temporary folder, in the same parent folder, to write into.

    Raises:
        CheckpointError: a failure of the file system (OSError) inside the block or while renaming.

    Example:
        >>> with appearing(Path("wide"), overwrite=False) as folder:
        ...     (folder / "config.json").write_text("{}")
    """
    made = [parent for parent in (target.parent, *target.parent.parents) if not parent.exists()]
    folder: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.growing-", dir=target.parent))
        folder.chmod(0o777 & ~_umask())
        yield folder
        if overwrite and target.exists():
            aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.replaced-", dir=target.parent))
            try:
                os.replace(target, aside / "old")
                os.replace(folder, target)
            except BaseException:
                if (aside / "old").exists() and not target.exists():
                    os.replace(aside / "old", target)
                if not (aside / "old").exists():
                    shutil.rmtree(aside, ignore_errors=True)
                raise
            shutil.rmtree(aside, ignore_errors=True)
        else:
            os.rename(folder, target)
    except BaseException as error:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        if isinstance(error, OSError):
            where = f" ({error.filename})" if error.filename not in (None, str(target)) else ""
            raise CheckpointError(
                f"{target} could not be written: {error.strerror or error}{where}. Nothing was left behind; free the "
                "path and try again."
            ) from error
        raise


def _umask() -> int:
    """The permissions that new files lack. It can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def check_target(target: Path, overwrite: bool) -> None:
    """Refuse a destination that exists, unless it is a model and may be overwritten.

    Raises:
        CheckpointError: the target exists.
    """
    if os.path.lexists(target) and not overwrite:
        raise CheckpointError(
            f"{target} exists and was kept as it is. Name another folder, or replace it with --overwrite."
        )
    if (
        os.path.exists(target)
        and not (target / "config.json").is_file()
        and (target.is_file() or any(target.iterdir()))
    ):
        raise CheckpointError(
            f"{target} exists and does not look like a model, so --overwrite did not replace it. Name another folder."
        )


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
