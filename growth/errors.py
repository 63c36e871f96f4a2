"""The errors a user can meet. Each message is one sentence that says what, with which values and
why, and then the next step:

    cannot grow 'residual' (hidden_size) from 768 to 1000: a layer norm takes the mean over all
    coordinates, so every coordinate needs the same number of copies. Use a multiple of 768: 1536.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pickle import UnpicklingError
from reprlib import Repr
from typing import Any

LONGEST, CLOSING = 2000, 500
"""The largest number of characters of a message, and how many of a longer one's end are kept."""

SHOWN = 200
"""The largest number of characters of a value that a message shows."""


def printable(text: str) -> str:
    r"""A text in which a terminal finds nothing to obey: what is not printable (control characters,
    escape sequences, marks that reverse or hide text) stands as Python escapes it.

    The names of tensors, files and config fields, and whatever a config holds, are somebody else's:
    an escape sequence in one of them could retitle the terminal, or hide what follows.

    Example:
        >>> printable("a\x1b[2Jb")
        'a\\x1b[2Jb'
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


class _Short(Repr):
    """What Python writes of a value, made no further than `SHOWN` needs: a value may hold another many times over."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.maxlevel, self.maxother = SHOWN, 20, 1 << 62
        self.maxtuple = self.maxlist = self.maxdict = SHOWN

    def repr1(self, x: Any, level: int) -> str:
        self.left -= 1
        return super().repr1(x, level) if self.left >= 0 else "..."

    def repr_str(self, x: str, level: int) -> str:
        return repr(x[: SHOWN + 1])

    def repr_bytes(self, x: bytes, level: int) -> str:
        return repr(x[: SHOWN + 1])

    def repr_int(self, x: int, level: int) -> str:
        return repr(x)

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        if level <= 0:
            return "{...}"
        first = [pair for pair, _ in zip(x.items(), range(SHOWN), strict=False)]  # in their own order
        return f"{{{', '.join(f'{self.repr1(k, level - 1)}: {self.repr1(v, level - 1)}' for k, v in first)}}}"


def shown(value: object) -> str:
    """A value as a message shows it: as Python writes it, cut where that is long.

    Example:
        >>> shown("x" * 1000) == repr("x" * 1000)[:SHOWN] + " ..."
        True
    """
    try:
        text = " ".join(_Short().repr(value).split())
    except ValueError:  # a whole number of thousands of digits
        text = f"a {type(value).__name__} that is too long to write"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."


class GrowthError(Exception):
    r"""Base of every error this library raises on purpose.

    Args:
        message: printed on one line and `printable`, whatever the names in it hold; where these are
            thousands of characters long, its beginning and its end, which is the next step.

    Example:
        >>> str(GrowthError("config field 'note' is two\nlines"))
        "config field 'note' is two lines"
    """

    def __init__(self, message: str) -> None:
        line = printable(" ".join(message.split()))
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST - CLOSING]} ... {line[-CLOSING:]}")


def class_named(name: str) -> type[GrowthError] | None:
    """The class of an error of this library by its name, as another process sends it; None for any other.

    Example:
        >>> class_named("ProofError").__name__, class_named("ValueError")
        ('ProofError', None)
    """
    kind = globals().get(name)
    return kind if isinstance(kind, type) and issubclass(kind, GrowthError) else None


class UnsupportedModelError(GrowthError):
    """A model type, class, config field or tensor that no declaration supports."""


class IllegalGrowthError(GrowthError):
    """Sizes or choices that no law of the architecture allows."""


class IllegalShapeError(IllegalGrowthError):
    """A size that no law allows, where another size would do.

    Args:
        message: what, why and the next step.
        blame: the names of the sizes that are at fault together; empty where that is not known.
    """

    def __init__(self, message: str, blame: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.blame = frozenset(blame)


class CheckpointError(GrowthError):
    """A source that cannot be read whole, or a destination that cannot be written whole."""


class ProofError(GrowthError):
    """A growth that was computed and is not exact. Nothing of it was kept."""


FOREIGN_ERRORS = (
    *(
        ArithmeticError,
        AssertionError,
        AttributeError,
        EOFError,
        ImportError,
        LookupError,
        NameError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ),
    *(struct.error, UnpicklingError),
)
"""What other people's parsers and constructors raise on values they did not expect."""
