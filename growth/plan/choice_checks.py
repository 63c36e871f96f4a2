"""What each choice may be: a check per kind of value, and how the command line reads its text.

A check takes what the caller gave and returns it in one spelling, or raises `IllegalGrowthError`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Literal

from growth.errors import IllegalGrowthError
from growth.plan.symmetry import LARGEST_NOISE, NOISE_HINT

LARGEST_WIDTH = 1024
KEEP: Literal["keep"] = "keep"

DEPTH = frozenset(
    {
        "depth",
        "layers",
        "n_layer",
        "n_layers",
        "num_layers",
        "num_hidden_layers",
        "num_decoder_layers",
        "encoder_layers",
    }
    | {"decoder_layers"}
)
"""Names by which people ask for more layers."""
NO_DEPTH = (
    "growth makes layers wider; how many there are stays as it is for now. Choose a width, or sizes such as "
    "hidden_size, intermediate_size and heads."
)


def check_width(value: Any) -> float:
    """A factor as a number, whole ones as whole numbers: ``"5/3"``, ``Fraction(3, 2)``, ``2``."""
    try:
        width = float(Fraction(value.strip())) if isinstance(value, str) else value
        width = float(width) if isinstance(width, Fraction) else width
    except (ValueError, ArithmeticError):
        width = None
    if (
        isinstance(width, bool)
        or not isinstance(width, (int, float))
        or not (math.isfinite(width) and 1 < width <= LARGEST_WIDTH)
    ):
        raise IllegalGrowthError(
            f"width must be a number above 1 and at most {LARGEST_WIDTH}, not {value!r}. Use 2 to double, 1.5 or 3/2 "
            "for half as much again."
        )
    return int(width) if width == int(width) else float(width)


def size_check(name: str) -> Callable[[Any], int | str]:
    """The check of a size: a whole number, or ``keep``."""

    def check(value: Any) -> int | str:
        if value != KEEP and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise IllegalGrowthError(f"{name} must be a whole number, or 'keep' to stay as it is, not {value!r}.")
        return KEEP if value == KEEP else int(value)

    return check


def check_sizes(value: Mapping[str, Any] | None) -> dict[str, int | str]:
    """Sizes by name, each a whole number or ``keep``; none of them a number of layers."""
    for name in value or {}:
        if str(name).rpartition(".")[2] in DEPTH:
            raise IllegalGrowthError(f"{name} is not a width: {NO_DEPTH}")
    return {str(name): size_check(str(name))(size) for name, size in (value or {}).items()}


def one_of(name: str, values: tuple[str, ...]) -> Callable[[Any], str]:
    """The check of a choice among a few words."""

    def check(value: Any) -> str:
        if str(value).replace("_", "-") not in values:
            raise IllegalGrowthError(f"{name} must be {' or '.join(values)}, not {value!r}.")
        return str(value).replace("_", "-")

    return check


def check_noise(value: Any) -> float:
    """The RMS of the noise over that of the weights, from 0 to `LARGEST_NOISE`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= LARGEST_NOISE:
        raise IllegalGrowthError(f"noise must be a number from 0 to {LARGEST_NOISE}, not {value!r}. {NOISE_HINT}")
    return value


def check_seed(value: Any) -> int:
    """A whole number of 64 bits."""
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**64:
        raise IllegalGrowthError(f"seed must be a whole number of 64 bits, not {value!r}. Use 0, for example.")
    return value


def read_whole(text: str) -> int | str:
    """A text as a whole number where it is one."""
    try:
        return int(text)
    except ValueError:
        return text.strip().lower()


def read_decimal(text: str) -> float | str:
    """A text as a number where it is one."""
    try:
        return float(text)
    except ValueError:
        return text


def read_named_size(text: str) -> dict[str, int | str]:
    """``NAME=N`` as ``{name: n}``."""
    name, equals, size = text.partition("=")
    if not equals or not name.strip():
        raise IllegalGrowthError(f"{text!r} is not of the form NAME=N, such as moe_intermediate_size=2048.")
    return {name.strip(): read_whole(size)}
