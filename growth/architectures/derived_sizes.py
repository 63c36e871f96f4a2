"""Sizes and constants that follow from other sizes, as values: they can be compared and printed, which
a function cannot (`growth.architectures.python_text`).

=====================  =======================================  =========================================
value                  is                                       example
=====================  =======================================  =========================================
``Times(c, a, ...)``   c times the product of sizes             ``Times(4, "hidden_size")``
``Over(a, b)``         a / b, which must divide evenly          ``Over("hidden_size", "num_heads")``
``Plus(a, ...)``       a sum of sizes and of such values        ``Plus("inner", Times(2, "state"))``
``Minus(a, b)``        a - b                                    ``Minus("head_dim", "rotary_dim")``
``Power({a: e}, c)``   a constant of the forward pass:          ``Power({"head_dim": -0.5})``
                       c times a product of powers
``TwinFields({..})``   further config fields of the twin        ``TwinFields({"n_layer": 2})``
=====================  =======================================  =========================================

A size takes one of the first four as ``follows``, a constant is the fifth, and ``twin`` the last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from growth.errors import UnsupportedModelError

if TYPE_CHECKING:
    from growth.architectures.sizes import Sizes


@dataclass(frozen=True, init=False)
class Times:
    """A number times the product of some sizes, cut to a whole number as model code does it.

    Args:
        factor: the number, a fraction too, or the config field that holds it (dotted inside a
            nested config).
        of: names of sizes; none for a size that is always ``factor``.

    Raises:
        UnsupportedModelError: if the config has no number in that field.

    Example:
        >>> Times(4, "hidden_size")(None, {"hidden_size": 16})
        64
        >>> Times(1)(None, {})
        1
        >>> from types import SimpleNamespace
        >>> Times("expand", "hidden_size")(SimpleNamespace(expand=1.5), {"hidden_size": 16})
        24
    """

    factor: float | Fraction | str
    of: tuple[str, ...]

    def __init__(self, factor: float | Fraction | str, *of: str) -> None:
        object.__setattr__(self, "factor", factor)
        object.__setattr__(self, "of", of)

    def __call__(self, config: Any, sizes: Sizes) -> int:
        factor = self.factor
        if isinstance(factor, str):
            found = config
            for part in factor.split("."):
                found = getattr(found, part, None)
            if isinstance(found, bool) or not isinstance(found, (int, float)):
                raise UnsupportedModelError(
                    f"config field '{factor}' is {found!r}, but must be a number: a size follows from it. Check "
                    "config.json."
                )
            factor = found
        return int(factor * math.prod(sizes[name] for name in self.of))


@dataclass(frozen=True)
class Over:
    """A size over another, or over a product of others.

    Args:
        whole, parts: names of sizes.
        called: what each of them counts, for messages; by default their names.

    Raises:
        UnsupportedModelError: if they do not divide evenly or are not positive.

    Example:
        >>> Over("hidden_size", "num_attention_heads")(None, {"hidden_size": 768, "num_attention_heads": 12})
        64
    """

    whole: str
    parts: str
    called: tuple[str, str] | None = None

    def __call__(self, config: Any, sizes: Sizes) -> int:
        called = (self.whole, self.parts) if self.called is None else self.called
        return quotient(config, sizes[self.whole], sizes[self.parts], called)


@dataclass(frozen=True, init=False)
class Plus:
    """A sum.

    Args:
        terms: names of sizes, or values that follow from sizes.

    Example:
        >>> Plus("inner", Times(2, "state"))(None, {"inner": 24, "state": 5})
        34
    """

    terms: tuple[str | Times | Over | Plus | Minus, ...]

    def __init__(self, *terms: str | Times | Over | Plus | Minus) -> None:
        object.__setattr__(self, "terms", terms)

    def __call__(self, config: Any, sizes: Sizes) -> int:
        return sum(sizes[term] if isinstance(term, str) else term(config, sizes) for term in self.terms)


@dataclass(frozen=True)
class Minus:
    """A size less another. `growth.architectures.sizes.read_sizes` refuses one below 0.

    Example:
        >>> Minus("head_dim", "rotary_dim")(None, {"head_dim": 16, "rotary_dim": 4})
        12
    """

    whole: str
    part: str

    def __call__(self, config: Any, sizes: Sizes) -> int:
        return sizes[self.whole] - sizes[self.part]


@dataclass(frozen=True)
class Power:
    """A constant of the forward pass: a number times powers of sizes. Only its ratio between two
    widths matters.

    Args:
        exponents: name of a size -> its exponent. A `Fraction` keeps a third exact.
        factor: the number.

    Example:
        >>> Power({"head_dim": -0.5})(None, {"head_dim": 64})
        0.125
    """

    exponents: Mapping[str, float | Fraction] = field(default_factory=dict)
    factor: float = 1.0

    def __call__(self, config: Any, sizes: Sizes) -> float:
        return self.factor * math.prod(float(sizes[name] ** float(power)) for name, power in self.exponents.items())


@dataclass(frozen=True)
class TwinFields:
    """Further fields of the twin's config, whatever the model's config and the number of layers.

    Example:
        >>> TwinFields({"n_layer": 2})(None, 2)
        {'n_layer': 2}
    """

    fields: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, config: Any, layers: int) -> Mapping[str, Any]:
        return dict(self.fields)


def quotient(config: Any, whole: int, parts: int, what: tuple[str, str]) -> int:
    """``whole / parts``.

    Args:
        config: the config, for messages.
        whole, parts: the two numbers.
        what: what each of them counts, for messages.

    Raises:
        UnsupportedModelError: if they do not divide evenly or are not positive.

    Example:
        >>> quotient(None, 768, 12, ("features", "heads"))
        64
    """
    if whole <= 0 or parts <= 0 or whole % parts:
        raise UnsupportedModelError(
            f"a {getattr(config, 'model_type', 'model')} cannot have {whole} {what[0]} and {parts} {what[1]}, which "
            "do not divide evenly. Check config.json."
        )
    return whole // parts
