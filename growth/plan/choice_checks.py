"""What each choice may be: a check per kind of value, and how the command line reads its text.

A check takes what the caller gave and returns it in one spelling, or raises `IllegalGrowthError`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence, Set
from fractions import Fraction
from typing import Any, Literal

from growth.arguments import check_flag, check_word, meant, real_number, whole_number
from growth.errors import IllegalGrowthError, shown
from growth.extension.placement import Insert
from growth.plan.like import OtherModel
from growth.plan.symmetry import AUTO, LARGEST_NOISE, NOISE_HINT, Symmetry

LARGEST_WIDTH = 1024
LARGEST_SIZE = 2**63 - 1
"""Of a dimension of a tensor."""
KEEP: Literal["keep"] = "keep"


def check_width(value: Any) -> float:
    """A factor as a number, whole ones as whole numbers: ``"5/3"``, ``Fraction(3, 2)``, ``2``."""
    width = _fraction(value) if isinstance(value, str) else real_number(value)
    if width is None or not 1 < width <= LARGEST_WIDTH:
        raise IllegalGrowthError(
            f"width must be a number above 1 and at most {LARGEST_WIDTH}, not {shown(value)}. Use 2 to double, 1.5 or "
            "3/2 for half as much again."
        )
    return int(width) if width == int(width) else float(width)


def _fraction(text: str) -> float | None:
    """A text such as ``1.5`` or ``3/2``; None for others."""
    whole, slash, parts = text.partition("/")
    try:
        return float(whole) / float(parts) if slash else float(whole)
    except (ValueError, ArithmeticError):
        return None


def width_text(width: float) -> str:
    """A factor in full, as a fraction where it is one of small numbers.

    Example:
        >>> width_text(2), width_text(5 / 3), width_text(1.0000001)
        ('2', '5/3', '1.0000001')
    """
    if float(short := f"{width:g}") == width:
        return short
    fraction = Fraction(width).limit_denominator(64)
    return str(fraction) if float(fraction) == width else repr(width)


def size_check(name: str) -> Callable[[Any], int | str]:
    """The check of a size: a whole number, or ``keep``."""

    def check(value: Any) -> int | str:
        if isinstance(value, str) and value == KEEP:
            return KEEP
        size = whole_number(value)
        if size is None or not 0 < size <= LARGEST_SIZE:
            raise IllegalGrowthError(
                f"{name} must be a whole number, or 'keep' to stay as it is, not {shown(value)}{meant(value, [KEEP])}."
            )
        return size

    return check


def check_sizes(value: Mapping[str, Any] | None) -> dict[str, int | str]:
    """Sizes by name, each a whole number or ``keep``."""
    if not isinstance(value, Mapping):
        raise IllegalGrowthError(
            f"sizes must be a dictionary of sizes by name, such as {{'moe_intermediate_size': 2048}}, not "
            f"{shown(value)}."
        )
    for name in value:
        if not isinstance(name, str):
            raise IllegalGrowthError(f"sizes names {shown(name)}, which is no name of a size. Use text.")
    return {name: size_check(name)(size) for name, size in value.items()}


def one_of(name: str, values: tuple[str, ...]) -> Callable[[Any], str]:
    """The check of a choice among a few words, in which ``_`` is as good as ``-``."""
    return lambda value: check_word(name, value.replace("_", "-") if isinstance(value, str) else value, values)


def check_noise(value: Any) -> float:
    """The RMS of the noise over that of the weights, from 0 to `LARGEST_NOISE`."""
    noise = real_number(value)
    if noise is None or not 0 <= noise <= LARGEST_NOISE:
        raise IllegalGrowthError(f"noise must be a number from 0 to {LARGEST_NOISE}, not {shown(value)}. {NOISE_HINT}")
    return noise


def check_symmetry(value: Any) -> str:
    """A way to break the symmetry of the copies, as `Symmetry` spells it, or ``auto``."""
    if isinstance(value, str) and value == AUTO:
        return AUTO
    return str(Symmetry.parse(str(value) if isinstance(value, (str, Symmetry)) else shown(value)))


def check_seed(value: Any) -> int:
    """A whole number of 64 bits."""
    seed = whole_number(value)
    if seed is None or not -(2**63) <= seed < 2**64:
        raise IllegalGrowthError(f"seed must be a whole number of 64 bits, not {shown(value)}. Use 0, for example.")
    return seed


def check_insert(value: Any) -> str:
    """Where new layers go, as `Insert` spells it."""
    return str(Insert.parse(value))


def check_untie(value: Any) -> bool:
    """True or False."""
    return check_flag("untie", value)


def check_lossy(value: Any) -> bool:
    """True or False."""
    return check_flag("lossy", value)


def check_vouch(value: Any) -> tuple[str, ...]:
    """Names of config fields; one alone need not be in a list."""
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, (Sequence, Set)) else (None,)
    if not all(isinstance(name, str) for name in names):
        raise IllegalGrowthError(f"vouch must be names of config fields, such as ['mlp_bias'], not {shown(value)}.")
    return names


def check_keep(value: Any) -> tuple[str, ...]:
    """Words for what to keep; several may stand in one text, with commas."""
    return _words(value, "keep must be words or names of config fields, such as ['vocab']")


def check_towers(value: Any) -> tuple[str, ...]:
    """Towers that grow; several may stand in one text, with commas."""
    return _words(value, "towers must be text, vision, audio or sections of the config, such as ['text', 'vision']")


def _words(value: Any, said: str) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, (Sequence, Set)) else (None,)
    if not all(isinstance(name, str) for name in names):
        raise IllegalGrowthError(f"{said}, not {shown(value)}.")
    words = (word.strip().replace("-", "_") for name in names for word in name.split(","))
    return tuple(dict.fromkeys(filter(None, words)))


def check_like(value: Any) -> Any:
    """What may name another model. `growth.plan.other_model` reads it."""
    if isinstance(value, OtherModel):
        return value
    if isinstance(value, (str, os.PathLike)):
        named = isinstance(os.fspath(value), str) and str(value).strip() != ""
    else:  # by name, since transformers takes seconds to import
        named = isinstance(value, Mapping) or "PreTrainedConfig" in (kind.__name__ for kind in type(value).__mro__)
    if not named:
        raise IllegalGrowthError(
            f"like must be a folder, a hub id, a config.json, a config or sizes by name, not {shown(value)}. Name the "
            "model whose sizes to take."
        )
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
        raise IllegalGrowthError(f"{shown(text)} is not of the form NAME=N, such as moe_intermediate_size=2048.")
    return {name.strip(): read_whole(size)}


def check_together(choices: Mapping[str, Any]) -> None:
    """Refuse choices that contradict each other.

    Raises:
        IllegalGrowthError: for a width beside another model's sizes, something to keep without
            another model, two kinds of symmetry, or an exact growth by copied layers.
    """
    if choices.get("new_layers", "silent") == "copied" and not choices.get("lossy"):
        raise IllegalGrowthError(
            "new_layers copied makes another function. Accept that with --lossy (in Python lossy=True), or leave it "
            "out."
        )
    if choices.get("like") and choices.get("width") is not None:
        raise IllegalGrowthError(
            "like takes all sizes from another model and leaves no room for a width. Choose one of the two."
        )
    if choices.get("keep") and not choices.get("like"):
        raise IllegalGrowthError(
            f"keep says what not to take from another model, and none is named: {', '.join(choices['keep'])}. Name "
            "one with like (--like), or keep a size by --size NAME=keep."
        )
    noise, symmetry = choices.get("noise"), choices.get("symmetry")
    if noise is not None and symmetry is not None and symmetry != check_symmetry(f"noise:{noise}"):
        raise IllegalGrowthError(
            f"noise {noise} and symmetry {symmetry} contradict each other. Choose one of the two."
        )
