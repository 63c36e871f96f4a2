"""What the functions that users call are given, checked before anything is done with it.

A check returns the value in one spelling, so that ``numpy.int64(96)`` and a tensor with one whole
number are as good as ``96``, or raises `IllegalGrowthError`, which says what the value must be.
Unknown keywords are a ``TypeError``, as for any Python function."""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from growth.errors import FOREIGN_ERRORS, IllegalGrowthError, shown


def whole_number(value: Any) -> int | None:
    """A whole number as an int, of whatever type it is; None for anything else, and for truth
    values.

    Example:
        >>> whole_number(numpy.int64(3)), whole_number(3.0), whole_number(True)
        (3, None, None)
    """
    if _is_truth_value(value):
        return None
    try:
        return int(value.__index__())
    except FOREIGN_ERRORS:
        return None


def real_number(value: Any) -> float | int | None:
    """A number as an int or a float, of whatever type it is; None for anything else, for text, and
    for truth values.

    Example:
        >>> real_number(numpy.float32(1.5)), real_number(Fraction(3, 2)), real_number("2")
        (1.5, 1.5, None)
    """
    if (whole := whole_number(value)) is not None:
        return whole
    if _is_truth_value(value) or isinstance(value, (str, bytes, bytearray)):
        return None
    try:
        return float(value)
    except FOREIGN_ERRORS:
        return None


def _is_truth_value(value: Any) -> bool:
    """``True`` and ``False``, of Python, numpy or torch."""
    return isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool")


def check_flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise IllegalGrowthError(f"{name} must be True or False, not {shown(value)}.")
    return value


def check_word(name: str, value: Any, words: Iterable[str]) -> str:
    """One of a few words."""
    known = tuple(words)
    if not isinstance(value, str) or value not in known:
        raise IllegalGrowthError(f"{name} must be {' or '.join(known)}, not {shown(value)}{meant(value, known)}.")
    return value


def check_path(name: str, value: Any) -> str:
    """A path as text: a str, or a path-like object of one."""
    try:
        path = os.fspath(value)
    except FOREIGN_ERRORS:
        path = None
    if not isinstance(path, str):
        raise IllegalGrowthError(
            f"{name} must be a path, as text or a pathlib.Path, not {shown(value)}. Name a folder."
        )
    return path


def check_kind(name: str, value: Any, kind: type | tuple[type, ...], what: str) -> None:
    """A value of some type, which ``what`` calls by its name."""
    if not isinstance(value, kind):
        raise IllegalGrowthError(f"{name} must be {what}, not {shown(value)}. Give one.")


def check_count(name: str, value: Any) -> int:
    """A whole number of at least 1."""
    count = whole_number(value)
    if count is None or count < 1:
        raise IllegalGrowthError(
            f"{name} must be a whole number of at least 1, not {shown(value)}. Use 100, for example."
        )
    return count


def check_function(name: str, value: Any) -> None:
    """A function, or None."""
    if value is not None and not callable(value):
        raise IllegalGrowthError(f"{name} must be a function, not {shown(value)}. Leave it out, or pass a function.")


def meant(word: object, known: Iterable[str]) -> str:
    """The known word that a misspelt one resembles, as an aside for a message; empty where none
    does.

    Example:
        >>> meant("hiden_size", ["hidden_size", "heads"])
        " (did you mean 'hidden_size'?)"
    """
    near = get_close_matches(word, list(known), n=1, cutoff=0.7) if isinstance(word, str) else ()
    return f" (did you mean '{near[0]}'?)" if near else ""
