"""The files of a source folder. None is read through a symbolic link that leaves the folder, and one
that changes while it is read is refused.

A link that leaves the folder could name any file of yours (``tokenizer.json -> ~/.ssh/id_rsa``), and
what is copied from a source ends up in a result that people publish. The hub's cache consists of
such links, into the ``blobs`` beside its ``snapshots``; those are followed.

Every file is looked at (device, inode, size, both times of change) before it is read, and once more
when all is written. Equal looks mean that what was read, and what was hashed, is one file in one state."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

from growth.errors import CheckpointError
from growth.hf.running_hash import RunningHash
from growth.text import as_argument, as_command

_PART = 1 << 24
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)  # not every system has the two


def leaves(path: Path, folder: Path) -> Path | None:
    """Where a path of ``folder`` leads, if symbolic links take it out of the folder; else None.

    A link into the ``blobs`` of the hub's cache that the folder belongs to does not count.

    Example:
        >>> leaves(Path("small/LICENSE"), Path("small"))  # LICENSE -> /home/me/secret
        PosixPath('/home/me/secret')
    """
    real, home = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    repository = home.parent.parent
    cached = home.parent.name == "snapshots" and repository.name.startswith("models--")
    if real.is_relative_to(home) or (cached and real.parent == repository / "blobs"):
        return None
    return real


def check_inside(path: Path, folder: Path) -> None:
    """Refuse a path of ``folder`` that symbolic links take out of it.

    Raises:
        CheckpointError: naming the path and where it leads.
    """
    if (outside := leaves(path, folder)) is not None:
        raise CheckpointError(
            f"{path} leads through a symbolic link to {outside}, outside {folder}, and such links are not followed: "
            "in a folder from elsewhere they could name any file of yours. Copy the folder with what its links name "
            f"({as_command(['cp', '-rL', as_argument(str(folder)), 'COPY'])}), if you trust it."
        )


@dataclass(frozen=True)
class _Look:
    """What tells a file in one state from another file, and from itself once written to."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int
    """When anything about the file changed. Unlike the time of modification nobody can set it."""

    @classmethod
    def of(cls, status: os.stat_result) -> _Look:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def difference(self, later: _Look) -> str:
        """What became of the file, in words; empty where nothing did."""
        if self == later:
            return ""
        if (self.device, self.inode) != (later.device, later.inode):
            return "another file took its place"
        if self.size != later.size:
            return f"it went from {self.size} to {later.size} bytes"
        if self.modified != later.modified:
            return "it was written to"
        return "it was written to and its time put back, or its permissions or links changed"


@dataclass(frozen=True)
class SourceFiles:
    """The files that are read of one source folder.

    Args:
        folder: the source.

    Example:
        >>> files = SourceFiles(Path("small"))
        >>> files.note(Path("small/config.json"))
        >>> ...  # read it, as often as needed
        >>> files.check_unchanged()
    """

    folder: Path
    _looks: dict[Path, _Look] = field(default_factory=dict)
    _hashes: dict[Path, RunningHash] = field(default_factory=dict)

    def note(self, path: Path) -> None:
        """Take notice of a file before it is read.

        Raises:
            CheckpointError: for a link that leaves the folder, a file that is not there, or one that
                changed since it was first noted.
        """
        check_inside(path, self.folder)
        try:
            self._compare(path, os.stat(path))
        except OSError as error:
            raise _unreadable(path, error) from error

    def check_unchanged(self) -> None:
        """Compare every file that was noted with what it was then.

        Raises:
            CheckpointError: naming the first that is gone, was replaced or was written to.
        """
        for path in self._looks:
            try:
                self._compare(path, os.stat(path))
            except OSError as error:
                raise _changed(path, "it is gone or cannot be read") from error

    @contextmanager
    def open(self, path: Path) -> Iterator[FileIO]:
        """A file, opened for reading without a buffer, in the state in which it was first noted.

        Raises:
            CheckpointError: as `note` does.
        """
        real = Path(os.path.realpath(path))  # has no link in it, unless somebody makes one now
        check_inside(real, self.folder)
        self.note(path)
        try:
            file = FileIO(os.open(real, _READ))
        except OSError as error:
            raise _unreadable(path, error) from error
        with file:
            self._compare(path, os.fstat(file.fileno()))
            yield file

    def hash_as_read(self, paths: Iterable[Path]) -> None:
        """From now on, hash what is read of these files on the way (`follow`, `sha256`)."""
        self._hashes.update((path, RunningHash()) for path in paths)

    def follow(self, path: Path, file: FileIO, start: int, content: memoryview) -> None:
        """Take notice of a part of a file that was read, for its hash.

        Args:
            path: of the file.
            file: the file, open.
            start: of the part, from the beginning of the file.
            content: its bytes.
        """
        if (running := self._hashes.get(path)) is not None:

            def read(start: int, size: int) -> bytes:
                file.seek(start)
                return file.read(size) or b""

            running.follow(start, content, read)

    def sha256(self, path: Path, between: Callable[[], None] = lambda: None) -> str:
        """SHA-256 of a file, of which only what has not been hashed on the way is read.

        Args:
            path: of the file.
            between: called after some megabytes; it may raise, to give up.

        Raises:
            CheckpointError: as `parts` does.
        """

        def rest(start: int) -> Iterator[bytes]:
            for part in self.parts(path, start):
                between()
                yield part

        return self._hashes.get(path, RunningHash()).hexdigest(rest)

    def parts(self, path: Path, start: int = 0) -> Iterator[bytes]:
        """A file's content from ``start`` on, some megabytes at a time.

        Raises:
            CheckpointError: as `note` does, and if it cannot be read to its end.
        """
        with self.open(path) as file:
            file.seek(start)
            while True:
                try:
                    part = file.read(_PART)
                except OSError as error:
                    raise _unreadable(path, error) from error
                if not part:
                    return
                yield part

    def copy(self, path: Path, target: Path) -> None:
        """Copy a file's content. Raises what `parts` raises, and OSError for the target."""
        with target.open("wb") as copy:
            copy.writelines(self.parts(path))

    def _compare(self, path: Path, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"{path} is not a regular file. Name a folder of plain files.")
        look = _Look.of(status)
        if change := self._looks.setdefault(path, look).difference(look):
            raise _changed(path, change)


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"{path} cannot be read: {error.strerror or error}. Check the file and its permissions.")


def _changed(path: Path, how: str) -> CheckpointError:
    return CheckpointError(
        f"{path} changed while it was read ({how}), so what comes of it would be part old and part new, and was "
        "given up. Name the folder again once nothing writes to it."
    )
