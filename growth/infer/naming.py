"""Names and sizes for the spaces of a solution.

A free factor that has 36 coordinates in the small model and 72 in the wide one is ``hidden_size`` if that config field
says 36 and 72, and ``2 * hidden_size`` if it says 18 and 36. Where several fields would do, the shapes of the real
model decide."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from growth.architectures.sizes import Size, value_at
from growth.infer.errors import Unexplained
from growth.infer.pair import Pair
from growth.infer.ranges import Factor, Range, resolved
from growth.infer.solution import Part, Solution, free, starred


@dataclass(frozen=True)
class Multiple:
    """A size as a multiple of a config field's.

    Args:
        size: standard name of the field's size.
        times: by what it is multiplied.
    """

    size: str
    times: Fraction

    def __str__(self) -> str:
        return self.size if self.times == 1 else f"{self.times} * {self.size}"


Shapes = Mapping[str, set[tuple[int, ...]]]
"""Name with ``*`` for numbers -> the shapes of the real model's parameters of that name."""


class Sizing:
    """Which multiple of which size every free factor is.

    Args:
        found: the pair of miniatures.
        real: the real model's parsed config.
        shapes: of the real model's parameters.
    """

    def __init__(self, found: Pair, real: Any, shapes: Shapes) -> None:
        self.small: dict[str, int] = {}
        self.wide: dict[str, int] = {}
        self.real: dict[str, int] = {}
        for name, size in found.sizes.items():
            if size.field not in found.ratios:
                continue
            self.small[name] = value_at(found.small.parsed, size.field)
            self.wide[name] = value_at(found.wide.parsed, size.field)
            self.real[name] = value_at(real, size.field)
        self.shapes = shapes
        self.chosen: dict[int, Multiple] = {}

    def candidates(self, factor: Factor) -> list[Multiple]:
        """Every multiple that a factor may be, the plainest first."""
        n, m = factor.count
        out = []
        for name, small in self.small.items():
            times = Fraction(n, small)
            if m * small == n * self.wide[name] and (times * self.real[name]).denominator == 1:
                out.append(Multiple(name, times))
        return sorted(out, key=lambda one: (one.times != 1, one.times.denominator != 1, one.times < 1, one.times))

    def settle(self, solution: Solution) -> None:
        """Choose one for every factor.

        Raises:
            Unexplained: naming a tensor whose real shape fits none.
        """
        dims = list(_dimensions(solution))
        open_: dict[int, list[Multiple]] = {}
        for _, _, part in dims:
            for factor in free(part.parts):
                if id(factor) not in open_:
                    open_[id(factor)] = self.candidates(factor)
                    if not open_[id(factor)]:
                        n, m = factor.count
                        raise Unexplained(f"no config field grows as a dimension of {n} does, which becomes {m}")
        for many in (False, True):
            for name, d, part in dims:
                factors = {id(factor): factor for factor in free(part.parts)}
                if (len(factors) > 1) != many:
                    continue
                if (real := self.shapes.get(starred(name))) is None:
                    continue
                wanted = {shape[d] for shape in real if len(shape) > d}
                fits = [
                    combination
                    for combination in itertools.islice(itertools.product(*(open_[key] for key in factors)), 200)
                    if self.count(part.parts, dict(zip(factors, combination, strict=True))) in wanted
                ]
                if not fits:
                    raise Unexplained(
                        f"dimension {d} of '{name}' is {sorted(wanted)} in the model, and no multiple of a config "
                        "field that the miniature's dimension is"
                    )
                for position, key in enumerate(factors):
                    open_[key] = list(dict.fromkeys(combination[position] for combination in fits))
        self.chosen = {key: multiples[0] for key, multiples in open_.items()}

    def count(self, parts: Range, chosen: Mapping[int, Multiple]) -> int:
        """How many coordinates a range has in the real model."""
        total = 1
        for factor in resolved(parts):
            if factor.kept:
                total *= factor.count[0]
            elif factor.kind == "concatenation":
                total *= sum(self.count(piece, chosen) for piece in factor.parts)
            else:
                multiple = chosen[id(factor)]
                total *= int(multiple.times * self.real[multiple.size])
        return total


def _dimensions(solution: Solution) -> Iterator[tuple[str, int, Part]]:
    seen = set()
    for name, parts in solution.parts.items():
        for d, part in enumerate(parts):
            key = (starred(name), d, tuple(id(f) for f in free(part.parts)))
            if part.kind != "keeps" and key not in seen:
                seen.add(key)
                yield name, d, part


def powers(scale: float, ratios: Mapping[str, float]) -> dict[str, Fraction]:
    """The exponents q with ``exp(scale) = product of ratio ** q``: quarters, of as few sizes as possible.

    Args:
        scale: a logarithm.
        ratios: size -> its ratio; distinct.

    Example:
        >>> import math
        >>> powers(-0.5 * math.log(2), {"hidden_size": 2.0, "intermediate_size": 3.0})
        {'hidden_size': Fraction(-1, 2)}
    """
    import math

    quarters = [Fraction(q, 4) for q in sorted(range(-12, 13), key=lambda q: (q % 4 != 0, q % 2 != 0, abs(q))) if q]
    for count in (1, 2):
        for names in itertools.combinations(ratios, count):
            for exponents in itertools.product(quarters, repeat=count):
                total = sum(float(q) * math.log(ratios[name]) for q, name in zip(exponents, names, strict=True))
                if abs(total - scale) < 1e-9:
                    return dict(zip(names, exponents, strict=True))
    raise Unexplained("a factor of the forward pass is no product of powers of the sizes")


def distinct(found: Sizing) -> dict[str, float]:
    """One size for every ratio, the first that has it."""
    out: dict[str, float] = {}
    for name, small in found.small.items():
        ratio = found.wide[name] / small
        if ratio not in out.values():
            out[name] = ratio
    return out


__all__ = ["Mapping", "Multiple", "Sequence", "Size", "Sizing", "distinct", "powers"]
