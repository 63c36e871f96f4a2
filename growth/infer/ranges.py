"""What one dimension of a tensor ranges over, found out by unification.

A model is run at two sizes. A dimension that has ``n`` coordinates in the small model and ``m`` in the wide one is a
*range*: a product, row by row, of *factors*. A factor is one of

* *kept*: the same count at both sizes (the width of a head);
* *free*: it grows, and nothing is known about its inside;
* *product* of factors: a dimension of 18 that the code views as 3 heads of 6;
* *concatenation* of ranges: a fused projection that the code splits into queries, keys and values.

What the code does with a dimension says more and more about it. A slice makes a concatenation of a free factor
(`growth.infer.cuts`), a view makes a product, and every operation on two tensors says that two ranges are the same
(`growth.infer.unification`). What is still free in the end are the spaces of the model.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Literal

Count = tuple[int, int]
"""(coordinates in the small model, coordinates in the wide one)."""

_numbers = itertools.count()


class Factor:
    """One factor of a range. Identity matters: two factors are the same if they are one object, after links.

    Args:
        count: its coordinates, small and wide.
    """

    __slots__ = ("averaged", "count", "kind", "link", "number", "parts")

    def __init__(self, count: Count) -> None:
        self.count = count
        self.kind: Literal["free", "product", "concatenation"] = "free"
        self.parts: list[Range] = []  # of a product: one range; of a concatenation: its pieces
        self.link: Factor | None = None
        self.number = next(_numbers)
        self.averaged = False

    @property
    def kept(self) -> bool:
        """Whether it has one count at both sizes."""
        return self.count[0] == self.count[1]

    def __repr__(self) -> str:
        if self.kept:
            return str(self.count[0])
        inside = {"free": "", "product": f"={self.parts}", "concatenation": f"=cat{self.parts}"}[self.kind]
        return f"#{self.number}({self.count[0]}>{self.count[1]}){inside}"


Range = list[Factor]


def found(factor: Factor) -> Factor:
    """The factor that stands for ``factor`` after all links."""
    while factor.link is not None:
        if factor.link.link is not None:
            factor.link = factor.link.link
        factor = factor.link
    return factor


def kept(count: int) -> Range:
    """A range of one count at both sizes.

    Example:
        >>> kept(4), fresh((4, 4))
        ([4], [4])
    """
    return [Factor((count, count))]


def fresh(count: Count) -> Range:
    """A range that nothing is known about.

    Example:
        >>> count_of(fresh((4, 8)))
        (4, 8)
    """
    return [Factor(count)]


def grows(parts: Iterable[Factor]) -> bool:
    """Whether any factor of a range has more coordinates in the wide model.

    Example:
        >>> grows([*kept(3), *fresh((4, 8))]), grows(kept(3))
        (True, False)
    """
    return any(not factor.kept for factor in parts)


def resolved(parts: Iterable[Factor]) -> Range:
    """The range as kept, free and concatenated factors: products opened, kept neighbours multiplied, ones dropped.

    Example:
        >>> [factor.count for factor in resolved([*kept(2), *kept(3), *fresh((4, 8)), *kept(1)])]
        [(6, 6), (4, 8)]
    """
    out: Range = []
    for part in parts:
        factor = found(part)
        inner = resolved(factor.parts[0]) if factor.kind == "product" else [factor]
        for one in inner:
            if one.count == (1, 1):
                continue
            if out and out[-1].kept and one.kept:
                both = out[-1].count[0] * one.count[0]
                out[-1] = Factor((both, both))
            else:
                out.append(one)
    return out


def count_of(parts: Iterable[Factor]) -> Count:
    """The coordinates of a product of factors, small and wide.

    Example:
        >>> count_of([*kept(3), *fresh((4, 8))])
        (12, 24)
    """
    n = m = 1
    for part in parts:
        n, m = n * part.count[0], m * part.count[1]
    return n, m


def free(parts: Iterable[Factor]) -> list[Factor]:
    """The free factors inside a range: those that spaces are made of.

    Example:
        >>> [factor.count for factor in free([*kept(3), *fresh((4, 8))])]
        [(4, 8)]
    """
    out: list[Factor] = []
    for factor in resolved(parts):
        if factor.kept:
            continue
        if factor.kind == "concatenation":
            out += [inner for piece in factor.parts for inner in free(piece)]
        else:
            out.append(found(factor))
    return out


def join(pieces: Sequence[Range]) -> Range:
    """The concatenation of ranges.

    Example:
        >>> [factor.count for factor in join([fresh((4, 8)), kept(3)])]
        [(7, 11)]
    """
    pieces = [list(piece) for piece in pieces if count_of(piece) != (0, 0)]
    if len(pieces) == 1:
        return pieces[0]
    n, m = (sum(count_of(piece)[i] for piece in pieces) for i in (0, 1))
    joined = Factor((n, m))
    if not joined.kept:
        joined.kind, joined.parts = "concatenation", pieces
    return [joined]


def described(parts: Iterable[Factor]) -> str:
    """A range in words. What grows has its count in the wide model in brackets.

    Example:
        >>> described([*fresh((3, 6)), *kept(6)]), described(join([fresh((18, 36)), fresh((6, 12))]))
        ('3 (6) x 6', '[18 (36) + 6 (12)]')
    """
    said = [
        f"[{' + '.join(map(described, factor.parts))}]" if factor.kind == "concatenation" else counted(factor.count)
        for factor in resolved(parts)
    ]
    return " x ".join(said) or "1"


def counted(count: Count) -> str:
    """``18 (36)``; of a count that does not grow, ``18``."""
    return str(count[0]) if count[0] == count[1] else f"{count[0]} ({count[1]})"


def sources(parts: Range) -> list[int]:
    """Which old coordinate each new one copies, if every free factor is repeated as a whole.

    Example:
        >>> sources(fresh((2, 4)))
        [0, 1, 0, 1]
        >>> sources([*fresh((2, 4)), *kept(2)])
        [0, 1, 2, 3, 0, 1, 2, 3]
        >>> sources(join([fresh((2, 4)), fresh((1, 2))]))
        [0, 1, 0, 1, 2, 2]
    """
    factors = resolved(parts)
    if not factors:
        return [0]
    out = [0]
    for factor in factors:
        n, m = factor.count
        if factor.kind == "concatenation":
            own, at = [], 0
            for piece in factor.parts:
                own += [at + s for s in sources(piece)]
                at += count_of(piece)[0]
        else:
            own = [j % n for j in range(m)]
        out = [a * n + b for a, b in itertools.product(out, own)]
    return out


def growth_of(parts: Iterable[Factor]) -> float | None:
    """Wide over small count of a range, if all its parts grow by that; None if they do not.

    Example:
        >>> growth_of([*fresh((2, 4)), *kept(3)]), growth_of(join([fresh((2, 4)), fresh((2, 6))]))
        (2.0, None)
    """
    ratio = 1.0
    for factor in resolved(parts):
        if factor.kind == "concatenation":
            each = {round(r, 12) if (r := growth_of(piece)) is not None else None for piece in factor.parts}
            if len(each) != 1 or None in each:
                return None
            ratio *= next(iter(each)) or 1.0
        else:
            ratio *= factor.count[1] / factor.count[0]
    return ratio
