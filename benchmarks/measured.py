"""What a command takes, and tables of it, for ``stream.py``, ``at_scale.py`` and ``gpu.py``.

Run as a program it is the small process that stands between: Linux counts to the peak memory of a program that of the
process that started it, which would be the memory of torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Took:
    """A command that has ended.

    Args:
        code: its exit code, or minus the number of the signal that killed it.
        cpu: seconds of all its threads and processes, in the program and in the system.
        wall: seconds on the clock.
        peak: the most memory it had, in bytes.
        out, err: what it wrote.
    """

    code: int
    cpu: float
    wall: float
    peak: int
    out: str
    err: str

    def checked(self) -> Took:
        """Itself, if it ended well."""
        if self.code:
            raise SystemExit(f"a measured command ended with {self.code}:\n{self.out}{self.err}")
        return self


def took(command: Sequence[str | os.PathLike[str]]) -> Took:
    """Run a command and measure it."""
    read, write = os.pipe()
    with open(read, encoding="utf-8") as figures, open(write, "w", encoding="utf-8"):
        between = [sys.executable, __file__, str(write), *map(os.fspath, command)]
        done = subprocess.run(between, pass_fds=[write], capture_output=True, text=True, check=True)
        code, cpu, wall, peak = json.loads(figures.readline())
    return Took(code, cpu, wall, peak, done.stdout, done.stderr)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool) -> str:
    """Text in columns, the first to the left and the others to the right; as Markdown on demand."""
    every = [header, *rows]
    if markdown:
        marks = ["---", *["---:"] * (len(header) - 1)]
        lines = [f"| {' | '.join(cells)} |" for cells in every]
        return "\n".join([lines[0], f"|{'|'.join(marks)}|", *lines[1:]])
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        for cells in every
    )


def main(write: int, command: Sequence[str]) -> None:
    os.set_inheritable(write, False)
    begun = time.perf_counter()
    _, status, usage = os.wait4(os.posix_spawnp(command[0], command, os.environ), 0)
    wall = time.perf_counter() - begun
    figures = [os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss * 1024]
    os.write(write, f"{json.dumps(figures)}\n".encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
