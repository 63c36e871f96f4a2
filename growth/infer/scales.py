"""How values scale from the small model to the wide one: linear equations between logarithms.

In the wide model, the copies of an activation are ``exp(f)`` times what they copy. Every operation is an equation
between these ``f``: a product adds them, a sum needs them equal, an elementwise function needs ``f = 0``, a matrix
that reads k copies adds ``log k``. The scale of a parameter is an unknown like any other. So "a reader of k copies is
divided by k", "the last norm before a tied head carries 1/k" and "Gemma's embedding carries 1/sqrt(k)" are not rules
but solutions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from growth.infer.errors import Unexplained

SAME = 1e-9
"""Logarithms of ratios that differ by less are equal: ratios are of small whole numbers, and of their roots."""


@dataclass(frozen=True)
class Scale:
    """A linear form: ``constant + sum(coefficient * unknown)``.

    Example:
        >>> x = Scale({1: 1.0})
        >>> (x + x - Scale(constant=0.5)).terms, (x * 0.5).terms
        ({1: 2.0}, {1: 0.5})
    """

    terms: dict[int, float] = field(default_factory=dict)
    constant: float = 0.0

    def __add__(self, other: Scale) -> Scale:
        terms = dict(self.terms)
        for unknown, coefficient in other.terms.items():
            terms[unknown] = terms.get(unknown, 0.0) + coefficient
        return Scale({u: c for u, c in terms.items() if abs(c) > SAME}, self.constant + other.constant)

    def __mul__(self, factor: float) -> Scale:
        return Scale({u: c * factor for u, c in self.terms.items()}, self.constant * factor)

    def __sub__(self, other: Scale) -> Scale:
        return self + other * -1.0

    def plus(self, constant: float) -> Scale:
        """The sum with a number."""
        return Scale(self.terms, self.constant + constant)


ONE = Scale()
"""Values that do not scale."""


class Scales:
    """The equations so far, solved as they come.

    Example:
        >>> scales = Scales()
        >>> x, y = scales.unknown(), scales.unknown()
        >>> scales.equal(x + y, Scale(constant=1.0))
        >>> scales.equal(x, Scale(constant=0.25))
        >>> scales.value(y)
        0.75
    """

    def __init__(self) -> None:
        self._solved: dict[int, Scale] = {}
        self._count = 0

    def unknown(self) -> Scale:
        """A new unknown."""
        self._count += 1
        return Scale({self._count: 1.0})

    def reduced(self, scale: Scale) -> Scale:
        """The same in terms of unknowns that no equation gives."""
        while any(unknown in self._solved for unknown in scale.terms):
            out = Scale(constant=scale.constant)
            for unknown, coefficient in scale.terms.items():
                if unknown in self._solved:
                    self._solved[unknown] = self.reduced(self._solved[unknown])
                    out = out + self._solved[unknown] * coefficient
                else:
                    out = out + Scale({unknown: coefficient})
            scale = out
        return scale

    def equal(self, one: Scale, other: Scale = ONE) -> None:
        """Say that two scales are the same.

        Raises:
            Unexplained: if they cannot be.
        """
        if not self.try_equal(one, other):
            times = math.exp(abs(self.reduced(one - other).constant))
            raise Unexplained(
                f"copies of the same activation would have to be some factor times the small model's and {times:.4g} "
                "times that factor, both at once"
            )

    def try_equal(self, one: Scale, other: Scale = ONE) -> bool:
        """As `equal`; False, with nothing said, if they cannot be the same."""
        zero = self.reduced(one - other)
        if not zero.terms:
            return abs(zero.constant) < SAME
        pivot = max(zero.terms)
        coefficient = zero.terms[pivot]
        rest = Scale({u: c for u, c in zero.terms.items() if u != pivot}, zero.constant)
        self._solved[pivot] = rest * (-1.0 / coefficient)
        return True

    def value(self, scale: Scale) -> float | None:
        """Its value; None where the equations leave it open."""
        scale = self.reduced(scale)
        return None if scale.terms else scale.constant


def plain(value: Any) -> bool:
    """Whether an argument is a number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
