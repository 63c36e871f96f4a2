"""The errors a user can meet. Each message is one sentence that says what, with which values and
why, and then the next step:

    cannot grow 'residual' (hidden_size) from 768 to 1000: a layer norm takes the mean over all
    coordinates, so every coordinate needs the same number of copies. Use a multiple of 768: 1536.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pickle import UnpicklingError


class GrowthError(Exception):
    """Base of every error this library raises on purpose.

    Args:
        message: printed on one line, whatever line breaks the names in it hold.

    Example:
        >>> str(GrowthError("config field 'note' is two\nlines"))
        "config field 'note' is two lines"
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


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
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ),
    *(struct.error, UnpicklingError),
)
"""What other people's parsers and constructors raise on values they did not expect."""
