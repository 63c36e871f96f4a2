"""The command that is printed as the next step works as it stands, whatever the folders are called."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from growth.errors import printable
from growth.text import as_argument, as_command
from support.command import Grow, grow, small

__all__ = ["grow", "small"]  # fixtures

NAMES = ["-x", "--width", "a b", "it's", "$HOME", "a\nb", "a\x1b[2Jb\\c'd", "\u202eabc", "~", "b\udcff", "*", ""]


def test_a_shell_reads_back_what_is_printed() -> None:
    line = as_command(["printf", r"%s\0", *NAMES])
    assert printable(line) == line
    said = subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout
    assert said.decode("utf-8", "surrogateescape").split("\0")[:-1] == NAMES
    assert [as_argument(name) for name in ("-x", "a", "./-x")] == ["./-x", "a", "./-x"]


@pytest.mark.parametrize("name", ["-x", "my -model", "a\x1bb"])
def test_the_printed_command_works(
    name: str, grow: Grow, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(small, f"{name}-small")
    planned = _next(grow("plan", "--", f"{name}-small").out)
    assert planned[-1] == "DST" and planned[-2].removeprefix("./") == f"{name}-small"
    widened = grow(*planned[:-1], "--", name)
    assert widened.code == 0, widened
    verified = grow(*_next(widened.out), "--tokens", "32", "--device", "cpu")
    assert verified.code == 0 and "equal: " in verified.out


def _next(said: str) -> list[str]:
    """The arguments of the command behind ``next: grow``, as a shell takes them apart."""
    command = said.splitlines()[-1].removeprefix("next: grow ")
    line = f"set -- {command}; printf '%s\\0' \"$@\""
    return subprocess.run(["bash", "-c", line], capture_output=True, check=True, text=True).stdout.split("\0")[:-1]
