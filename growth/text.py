"""How results look: as text on a terminal and from ``print``, as HTML in a notebook.

A result lists its parts, each a sentence or a `Table`; `Shown` makes both forms of them. So the
command line, Python and a notebook say the same."""

from __future__ import annotations

import html
import os
import shlex
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from growth.errors import printable


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        header: one title per column.
        rows: as many cells each.
        right: numbers of the columns that are right-aligned, as figures are.

    Example:
        >>> print(Table(("size", "old"), [("hidden_size", 24)], right=(1,)))
        size         old
        -----------  ---
        hidden_size   24
    """

    header: Sequence[str]
    rows: Iterable[Sequence[Any]]
    right: Sequence[int] = ()

    def __str__(self) -> str:
        cells = [[printable(str(cell)) for cell in row] for row in (self.header, *self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.header))]
        lines = [
            "  ".join(
                cell.rjust(width) if i in self.right else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in cells
        ]
        return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])

    def html(self) -> str:
        """The table as HTML."""
        head = self._row(self.header, "th")
        return (
            f"<table><thead>{head}</thead><tbody>{''.join(self._row(row, 'td') for row in self.rows)}</tbody></table>"
        )

    def _row(self, cells: Sequence[Any], tag: str) -> str:
        sides = ["right" if i in self.right else "left" for i in range(len(cells))]
        shown = (
            f'<{tag} style="text-align: {side}">{html.escape(printable(str(cell)))}</{tag}>'
            for side, cell in zip(sides, cells, strict=True)
        )
        return f"<tr>{''.join(shown)}</tr>"


Part = str | Table


class Shown(ABC):
    """A result that prints as the command line prints it, and shows as HTML in a notebook."""

    @abstractmethod
    def _parts(self) -> Sequence[Part]:
        """What there is to say, one part after the other."""

    def __str__(self) -> str:
        return as_text(self._parts())

    def _repr_html_(self) -> str:
        return as_html(self._parts())


def as_text(parts: Iterable[Part]) -> str:
    """Parts with an empty line between them."""
    return "\n\n".join(printable_lines(str(part)) for part in parts)


def printable_lines(text: str) -> str:
    """A text of several lines, each `growth.errors.printable`."""
    return "\n".join(map(printable, text.split("\n")))


def as_html(parts: Iterable[Part]) -> str:
    """Parts as tables and paragraphs."""
    shown = (
        part.html()
        if isinstance(part, Table)
        else f"<p>{html.escape(printable_lines(part)).replace(chr(10), '<br>')}</p>"
        for part in parts
    )
    return f"<div>{''.join(shown)}</div>"


def as_command(words: Iterable[str]) -> str:
    r"""Words as a shell takes them. What a terminal would obey or not show (control characters,
    bytes that are no text) stands as an escape that the shell reads back.

    Example:
        >>> print(as_command(["grow", "verify", "my model", "a\x1bb"]))
        grow verify 'my model' $'a\x1bb'
    """
    return " ".join(shlex.quote(word) if word.isprintable() else _escaped(word) for word in words)


def _escaped(word: str) -> str:
    plain = word.replace("\\", "\\\\").replace("'", "\\'")
    shown = (one if one.isprintable() else "".join(f"\\x{byte:02x}" for byte in os.fsencode(one)) for one in plain)
    return f"$'{''.join(shown)}'"


def as_argument(path: str) -> str:
    """A path as a command takes it that is no option to it: ``./-x`` for ``-x``."""
    return f"./{path}" if path.startswith("-") else path


def wrapped(text: str, width: int = 100, indent: str = "") -> str:
    """A paragraph in lines of at most ``width`` characters, all but the first of them indented."""
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def readable(size: int) -> str:
    """A number of bytes.

    Example:
        >>> readable(538_060_800)
        '538 MB'
    """
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
