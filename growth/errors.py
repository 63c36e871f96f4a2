"""The errors a user can meet. Each message is one sentence that says what, with which values and
why, and then the next step."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pickle import UnpicklingError


class GrowthError(Exception):
    """Base of every error this library raises on purpose. Its message is one line, whatever the
    names in it hold."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class UnsupportedModelError(GrowthError):
    """A model type, a config field or a tensor that no declaration vouches for."""


class IllegalGrowthError(GrowthError):
    """Sizes or choices that no law of the architecture allows."""


class IllegalShapeError(IllegalGrowthError):
    """A size that no law allows, where another size would do.

    Args:
        message: what, why and the next step.
        blame: the names of the sizes that are at fault together; empty where nobody knows.
    """

    def __init__(self, message: str, blame: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.blame = frozenset(blame)


class CheckpointError(GrowthError):
    """A source that cannot be read whole, or a destination that cannot be written whole."""


class ProofError(GrowthError):
    """A growth that was computed but is not exact. Nothing was kept."""


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
