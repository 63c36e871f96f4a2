"""Names and sizes for the spaces of a solution.

A free factor that has 36 coordinates in the small model and 72 in the wide one is ``hidden_size`` if that config field
says 36 and 72, and ``2 * hidden_size`` if it says 18 and 36. Where several fields would do, the shapes of the real
model decide."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from growth.architectures.sizes import Size, size_at
from growth.infer.errors import Unexplained, Unsized
from growth.infer.pair import Pair
from growth.infer.parts import Part
from growth.infer.ranges import Factor, Range, free, resolved
from growth.infer.solution import Solution
from growth.infer.tensor_names import starred


@dataclass(frozen=True)
class Multiple:
    """A size as a multiple of a config field's.

    Args:
        size: standard name of the field's size.
        times: by what it is multiplied.

    Example:
        >>> str(Multiple("hidden_size", Fraction(2))), Multiple("hidden_size", Fraction(2)).of({"hidden_size": 18})
        ('2 * hidden_size', Fraction(36, 1))
    """

    size: str
    times: Fraction

    over: str = ""
    """Of a count that does not grow: the size that ``size`` is divided by, as in ``heads / key_value_heads``."""

    def of(self, sizes: Mapping[str, int]) -> Fraction:
        """Its value at some sizes."""
        value = self.times * (sizes[self.size] if self.size else 1)
        return value / sizes[self.over] if self.over else value

    def __str__(self) -> str:
        name = self.size if not self.over else f"{self.size} / {self.over}"
        return name if self.times == 1 else f"{self.times} * {name}"


Shapes = Mapping[str, set[tuple[int, ...]]]
"""Name with ``*`` for numbers -> the shapes of the real model's parameters of that name."""


Key = int | tuple[str, int]
"""What a multiple is chosen for: a factor that grows, by its identity; one that is kept, by its count."""


def key(factor: Factor) -> Key:
    """What `Sizing` files a factor under.

    Example:
        >>> from growth.infer.ranges import kept
        >>> key(kept(4)[0])
        ('kept', 4)
    """
    return ("kept", factor.count[0]) if factor.kept else id(factor)


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
            values = [size_at(config, size.field) for config in (found.small.parsed, found.wide.parsed, real)]
            if all(type(value) is int for value in values):
                self.small[name], self.wide[name], self.real[name] = values
        self.shapes = shapes
        self.chosen: dict[Key, Multiple] = {}

    def candidates(self, factor: Factor) -> list[Multiple]:
        """Every multiple that a factor may be, the plainest first."""
        n, m = factor.count
        if factor.kept:
            return [Multiple("", Fraction(n)), *self._quotients(n)]
        out = []
        for name, small in self.small.items():
            times = Fraction(n, small)
            if m * small == n * self.wide[name] and (times * self.real[name]).denominator == 1:
                out.append(Multiple(name, times))
        return sorted(out, key=lambda one: (one.times != 1, one.times.denominator != 1, one.times < 1, one.times))

    def _quotients(self, n: int) -> Iterator[Multiple]:
        """A count that is kept, and differs in the real model: as many queries to a key and value as there."""
        for (a, small), (b, other) in itertools.permutations(self.small.items(), 2):
            each = small // other
            if (
                small == each * other > other
                and self.wide[a] == each * self.wide[b]
                and n % each == 0
                and self.real[a] % self.real[b] == 0
                and self.real[a] != each * self.real[b]
            ):
                yield Multiple(a, Fraction(n // each), b)

    def settle(self, solution: Solution) -> None:
        """Choose one for every factor.

        Raises:
            Unexplained: naming a tensor whose real shape fits none.
        """
        dims = list(_dimensions(solution))
        open_: dict[Key, list[Multiple]] = {}
        for name, d, part in dims:
            for factor in leaves(part.parts):
                if key(factor) not in open_:
                    open_[key(factor)] = self.candidates(factor)
                    if not open_[key(factor)]:
                        n, m = factor.count
                        raise Unsized(
                            f"dimension {d} of '{name}' has a part of {n} coordinates that become {m}, which is no "
                            f"multiple of a config field that grows ({', '.join(self.small) or 'there is none'})"
                        )
        for many in (False, True):
            for name, d, part in dims:
                keys = list(dict.fromkeys(key(factor) for factor in leaves(part.parts)))
                if (len(keys) > 1) != many or (real := self.shapes.get(starred(name))) is None:
                    continue
                wanted = {shape[d] for shape in real if len(shape) > d}
                fits = [
                    combination
                    for combination in itertools.islice(itertools.product(*(open_[one] for one in keys)), 500)
                    if self.count(part.parts, dict(zip(keys, combination, strict=True))) in wanted
                ]
                if not fits:
                    raise Unsized(
                        f"dimension {d} of '{name}' is {', '.join(map(str, sorted(wanted)))} in the model, and "
                        "the multiple of a config field that it is in the miniature would be another number"
                    )
                for position, one in enumerate(keys):
                    open_[one] = list(dict.fromkeys(combination[position] for combination in fits))
        self.chosen = {one: multiples[0] for one, multiples in open_.items()}

    def count(self, parts: Range, chosen: Mapping[Key, Multiple]) -> int:
        """How many coordinates a range has in the real model; 0 where it would be no whole number."""
        total = Fraction(1)
        for factor in resolved(parts):
            if factor.kind == "concatenation" and not factor.kept:
                total *= sum(self.count(piece, chosen) for piece in factor.parts)
            else:
                total *= chosen[key(factor)].of(self.real)
        return int(total) if total.denominator == 1 else 0


def leaves(parts: Range) -> Iterator[Factor]:
    """The kept and free factors that a range is made of."""
    for factor in resolved(parts):
        if factor.kind == "concatenation" and not factor.kept:
            for piece in factor.parts:
                yield from leaves(piece)
        else:
            yield factor


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
    quarters = [Fraction(q, 4) for q in sorted(range(-12, 13), key=lambda q: (q % 4 != 0, q % 2 != 0, abs(q))) if q]
    for count in (1, 2):
        for names in itertools.combinations(ratios, count):
            for exponents in itertools.product(quarters, repeat=count):
                total = sum(float(q) * math.log(ratios[name]) for q, name in zip(exponents, names, strict=True))
                if abs(total - scale) < 1e-9:
                    return dict(zip(names, exponents, strict=True))
    raise Unexplained(
        f"a factor of the forward pass that is {math.exp(scale):.4g} times as large in a wider model is no product of "
        f"powers of {', '.join(ratios)}"
    )


def distinct(found: Sizing) -> dict[str, float]:
    """One size for every ratio, the first that has it."""
    out: dict[str, float] = {}
    for name, small in found.small.items():
        ratio = found.wide[name] / small
        if ratio not in out.values():
            out[name] = ratio
    return out


__all__ = ["Mapping", "Multiple", "Sequence", "Size", "Sizing", "distinct", "powers"]
