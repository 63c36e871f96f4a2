"""Reads Markdown pages: their code blocks, links and headings; and runs the blocks of a page."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from growth.cli.main import grow
from growth.errors import GrowthError

RUN = ("python", "sh")
SHOWN = ("text", "json", "bibtex")
FENCE = re.compile(r"^(?: {0,3})(`{3,})(.*)$")
NOT_RUN = re.compile(r"^<!-- not run: (.+) -->$")
SAVED = re.compile(r"^<!-- saved as: (.+) -->$")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Args:
        line: where it starts, counted from 1.
        language: the word behind the fence.
        text: what it holds.
        excuse: why it is not run, from the comment on the line above; None where it runs.
        file: the file it is saved as instead, from such a comment, for a later command.
    """

    line: int
    language: str
    text: str
    excuse: str | None
    file: str | None = None


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found, lines, at = [], page.splitlines(), 0
    while at < len(lines):
        fence = FENCE.match(lines[at])
        if fence is None:
            at += 1
            continue
        end = next(i for i in range(at + 1, len(lines)) if lines[i].strip() == fence[1])
        above = lines[at - 1].strip() if at else ""
        marked, saved = NOT_RUN.match(above), SAVED.match(above)
        text = "\n".join(lines[at + 1 : end])
        found.append(Block(at + 1, fence[2].strip(), text, marked[1].strip() if marked else None, saved and saved[1]))
        at = end + 1
    return found


def outside_blocks(page: str) -> list[str]:
    """The lines of a page that are in no block."""
    kept, fence = [], None
    for line in page.splitlines():
        match = FENCE.match(line)
        if fence is None and match:
            fence = match[1]
        elif fence is not None and line.strip() == fence:
            fence = None
        elif fence is None:
            kept.append(line)
    return kept


def links(page: str) -> list[str]:
    """The targets of all links and pictures."""
    return LINK.findall("\n".join(outside_blocks(page)))


def anchors(page: str) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    headings = [line.lstrip("#").strip() for line in outside_blocks(page) if re.match(r"#{1,6} ", line)]
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return set(plain)


class BlockError(AssertionError):
    """A block that does not do what its page says."""


def run_page(page: str, folder: Path, name: str = "page") -> int:
    """Runs the blocks of a page in order, in ``folder``: Python in one namespace, ``grow`` in this
    process, other commands in a shell.

    A command with a comment that starts with ``# refused`` at its end must exit with code 1.

    Returns:
        How many blocks ran.

    Raises:
        BlockError: with the line of the first block that fails.
    """
    module = types.ModuleType("__page__")  # a real one: dataclasses look theirs up by name
    namespace, ran = vars(module), 0
    # Only this one goes again. Modules that a page imports stay, or their classes would be made a second time.
    with contextlib.chdir(folder), contextlib.ExitStack() as stack:
        sys.modules[module.__name__] = module
        stack.callback(sys.modules.pop, module.__name__)
        for block in blocks(page):
            if block.language not in RUN or block.excuse is not None:
                continue
            where = f"{name}, the block at line {block.line}"
            if block.file is not None:
                Path(block.file).write_text(block.text, encoding="utf-8")
            elif block.language == "python":
                _run_python(block, namespace, where)
            else:
                for command in commands(block.text):
                    _run_command(command, where)
            ran += 1
    return ran


def _run_python(block: Block, namespace: dict[str, Any], where: str) -> None:
    code = compile("\n" * block.line + block.text, where, "exec")
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            exec(code, namespace)
    except Exception as error:
        raise BlockError(f"{where}: {type(error).__name__}: {error}") from error


def commands(text: str) -> Iterator[str]:
    """The commands of a block, one a line; a backslash at the end goes on."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


def _run_command(command: str, where: str) -> None:
    expected = 1 if re.search(r"\s# refused", command) else 0
    if command.startswith("grow "):
        arguments = shlex.split(command, comments=True)[1:]
        result = CliRunner().invoke(grow, arguments)
        code = 1 if isinstance(result.exception, GrowthError) else result.exit_code
        said = f"{result.output}{result.exception or ''}"
    else:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env={**os.environ, "PATH": path})
        code, said = done.returncode, done.stdout + done.stderr
    if code != expected:
        raise BlockError(f"{where}: `{command}` ended with code {code}, not {expected}: {said[-500:]}")
