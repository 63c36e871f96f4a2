"""Python expressions laid out on lines that are not too long."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace

WIDTH = 110
"""The longest line."""


@dataclass(frozen=True)
class Comment:
    """A remark between the entries of a bracket."""

    text: str


@dataclass(frozen=True)
class Bracket:
    """Entries in brackets: on one line where they fit, else one on each.

    Args:
        opening: what comes before the entries, such as ``Size(``.
        entries: in order.
        closing: the bracket that closes.
        lone_comma: whether a single entry is followed by a comma, as in a tuple.
        tall: whether each entry has a line of its own in any case.
    """

    opening: str
    entries: tuple[Entry, ...]
    closing: str
    lone_comma: bool = False
    tall: bool = False


Code = str | Bracket
Entry = Code | Comment


def after(prefix: str, code: Code) -> Code:
    """An expression behind a prefix: ``name=``, ``"key": ``, ``**``."""
    return prefix + code if isinstance(code, str) else replace(code, opening=prefix + code.opening)


def laid_out(code: Code, margin: int = 0, behind: int = 0) -> str:
    """The text of an expression, without a margin before its first line.

    Args:
        code: the expression.
        margin: of its first line.
        behind: how many characters follow its last line.

    Example:
        >>> print(laid_out(Bracket("f(", ("1", Bracket("[", ("2", "3"), "]")), ")")))
        f(1, [2, 3])
        >>> print(laid_out(Bracket("f(", ("1", Comment("one is left out")), ")")))
        f(
            1,
            # one is left out
        )
    """
    flat = _flat(code)
    if isinstance(code, str) or (flat is not None and margin + len(flat) + behind <= WIDTH):
        return str(code if flat is None else flat)
    inner = margin + 4
    lines = [code.opening]
    for entry in code.entries:
        if isinstance(entry, Comment):
            lines += [" " * inner + line for line in comment_lines(entry.text, inner)]
        else:
            lines.append(" " * inner + laid_out(entry, inner, 1) + ",")
    return "\n".join([*lines, " " * margin + code.closing])


def comment_lines(text: str, margin: int = 0) -> list[str]:
    """A remark as lines of comment."""
    return [f"# {line}" for line in textwrap.wrap(text, WIDTH - margin - 2)]


def _flat(code: Entry) -> str | None:
    """An expression on one line; None where it has a comment or is tall."""
    if isinstance(code, Comment):
        return None
    if isinstance(code, str):
        return code
    entries = [_flat(entry) for entry in code.entries]
    if code.tall or None in entries:
        return None
    comma = "," if code.lone_comma and len(entries) == 1 else ""
    return f"{code.opening}{', '.join(map(str, entries))}{comma}{code.closing}"
