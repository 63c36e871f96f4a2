"""What one dimension of a tensor ranges over, found out by unification.

A model is run at two sizes. A dimension that has ``n`` coordinates in the small model and ``m`` in the wide one is a
*range*: a product, row by row, of *factors*. A factor is one of

* *kept*: the same count at both sizes (the width of a head);
* *free*: it grows, and nothing is known about its inside;
* *product* of factors: a dimension of 18 that the code views as 3 heads of 6;
* *concatenation* of ranges: a fused projection that the code splits into queries, keys and values.

What the code does with a dimension says more and more about it. A `view` makes a product of a free factor, a slice makes
a concatenation, and every operation on two tensors says that two ranges are the same (`unify`). What is still free in
the end are the spaces of the model.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Literal

from growth.infer.errors import Unexplained

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
    return [Factor((count, count))]


def fresh(count: Count) -> Range:
    """A range that nothing is known about."""
    return [Factor(count)]


def resolved(parts: Iterable[Factor]) -> Range:
    """The range as kept, free and concatenated factors: products opened, kept neighbours multiplied, ones dropped."""
    out: Range = []
    for part in parts:
        factor = found(part)
        if factor.kind == "product":
            inner = resolved(factor.parts[0])
        else:
            inner = [factor]
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
    n = m = 1
    for part in parts:
        n, m = n * part.count[0], m * part.count[1]
    return n, m


def divide(factor: Factor, outer: Count) -> tuple[Range, Range]:
    """A factor as a product ``outer * inner``.

    Raises:
        Unexplained: if it does not divide so.
    """
    factor = found(factor)
    (n, m), (a, b) = factor.count, outer
    if a == 0 or b == 0 or n % a or m % b:
        raise Unexplained(f"{n} and {m} coordinates are not {a} and {b} times something")
    inner = (n // a, m // b)
    if factor.kept:
        if a != b:
            raise Unexplained(f"a dimension of {n} that does not grow is divided into parts that do")
        return kept(a), kept(n // a)
    if factor.kind == "concatenation":
        return _divide_pieces(factor, outer, inner)
    first, second = fresh(outer), fresh(inner)
    factor.kind, factor.parts = "product", [[*first, *second]]
    return first, second


def _divide_pieces(factor: Factor, outer: Count, inner: Count) -> tuple[Range, Range]:
    pieces = factor.parts
    counts = [count_of(piece) for piece in pieces]
    if outer[0] == outer[1] and all(
        count[0] % inner[0] == 0 and count[1] % inner[1] == 0 and count[0] // inner[0] == count[1] // inner[1]
        for count in counts
    ):  # several equal blocks behind one another: an index of the block, and what they have in common
        blocks: list[Range] = []
        for piece, count in zip(pieces, counts, strict=True):
            number = count[0] // inner[0]
            _, block = split(piece, [(number, number), inner])
            blocks.append(block)
        for block in blocks[1:]:
            unify(blocks[0], block)
        result = kept(outer[0]), blocks[0]
    elif all(count[0] % inner[0] == 0 and count[1] % inner[1] == 0 for count in counts):
        halves = [split(piece, [(c[0] // inner[0], c[1] // inner[1]), inner]) for piece, c in zip(pieces, counts, strict=True)]
        for half in halves[1:]:
            unify(halves[0][1], half[1])
        result = join([half[0] for half in halves]), halves[0][1]
    else:
        raise Unexplained(f"parts of {[c[0] for c in counts]} coordinates are viewed in rows of {inner[0]}")
    joined = Factor(factor.count)
    joined.kind, joined.parts = "product", [[*result[0], *result[1]]]
    factor.link = joined
    return result


def split(parts: Range, counts: Sequence[Count]) -> list[Range]:
    """A range as a product of ranges of these counts, outermost first.

    Example:
        A range of 18 coordinates (36 in the wide model), viewed as heads of 6:

        >>> heads, width = split(fresh((18, 36)), [(3, 6), (6, 6)])
        >>> heads[0].count, width[0].count
        ((3, 6), (6, 6))
    """
    rest, out = resolved(parts), []
    for a, b in counts:
        taken: Range = []
        n, m = 1, 1
        while (n, m) != (a, b):
            if not rest:
                raise Unexplained(f"no factor of {a} and {b} coordinates")
            head = rest.pop(0)
            x, y = head.count
            if a % (n * x) == 0 and b % (m * y) == 0:
                taken.append(head)
                n, m = n * x, m * y
                continue
            if a % n or b % m:
                raise Unexplained(f"{a} and {b} coordinates are not made of rows of {n} and {m}")
            outer, inner = divide(head, (a // n, b // m))
            taken += outer
            rest = [*inner, *rest]
            n, m = a, b
        out.append(taken)
    if count_of(rest) != (1, 1):
        raise Unexplained(f"{count_of(rest)} coordinates are left over")
    return out


def join(pieces: Sequence[Range]) -> Range:
    """The concatenation of ranges."""
    pieces = [list(piece) for piece in pieces if count_of(piece) != (0, 0)]
    if len(pieces) == 1:
        return pieces[0]
    n, m = (sum(count_of(piece)[i] for piece in pieces) for i in (0, 1))
    joined = Factor((n, m))
    if not joined.kept:
        joined.kind, joined.parts = "concatenation", pieces
    return [joined]


def cut(parts: Range, at: Count) -> None:
    """Make sure that a range has a boundary after ``at`` coordinates."""
    whole = resolved(parts)
    if at in ((0, 0), count_of(whole)) or all(factor.kept for factor in whole):
        return
    head, inner = whole[0], whole[1:]
    n, m = count_of(inner)
    if at[0] % n or at[1] % m:
        raise Unexplained(f"a dimension is cut after {at[0]} coordinates, within rows of {n}")
    _cut_factor(head, (at[0] // n, at[1] // m))


def _cut_factor(factor: Factor, at: Count) -> None:
    factor = found(factor)
    if at in ((0, 0), factor.count):
        return
    if factor.kept:
        if at[0] != at[1]:
            raise Unexplained(f"a dimension of {factor.count[0]} that does not grow is cut where another one grows")
        return
    if factor.kind == "product":
        cut([factor], at)
        return
    if factor.kind == "free":
        rest = (factor.count[0] - at[0], factor.count[1] - at[1])
        if min(*at, *rest) < 0:
            raise Unexplained("a dimension is cut beyond its end")
        factor.kind, factor.parts = "concatenation", [fresh(at), fresh(rest)]
        return
    pieces: list[Range] = []
    n = m = 0
    for piece in factor.parts:
        x, y = count_of(piece)
        inside = n < at[0] < n + x or m < at[1] < m + y
        if inside:
            here = (at[0] - n, at[1] - m)
            if not (0 <= here[0] <= x and 0 <= here[1] <= y):
                raise Unexplained("a dimension is cut at different parts in the small and the wide model")
            cut(piece, here)
            pieces += [between(piece, (0, 0), here), between(piece, here, (x, y))]
        else:
            pieces.append(piece)
        n, m = n + x, m + y
    factor.parts = [piece for piece in pieces if count_of(piece) != (0, 0)]


def between(parts: Range, start: Count, end: Count) -> Range:
    """The coordinates ``start .. end`` of a range, cut there if it is not yet."""
    whole = resolved(parts)
    if start == (0, 0) and end == count_of(whole):
        return whole
    if all(factor.kept for factor in whole):
        n, m = end[0] - start[0], end[1] - start[1]
        return kept(n) if n == m else fresh((n, m))  # a number of tokens, which depends on the data
    cut(parts, start)
    cut(parts, end)
    whole = resolved(parts)
    head, inner = whole[0], whole[1:]
    n, m = count_of(inner)
    if head.kept:
        return [*kept((end[0] - start[0]) // n), *inner]
    pieces, at = [], (0, 0)
    for piece in head.parts if head.kind == "concatenation" else [[head]]:
        x, y = count_of(piece)
        after = (at[0] + x, at[1] + y)
        if at[0] * n >= start[0] and at[1] * m >= start[1] and after[0] * n <= end[0] and after[1] * m <= end[1]:
            pieces.append(piece)
        at = after
    taken = join(pieces) if pieces else kept(0)
    return [*taken, *inner]


def unify(one: Range, other: Range) -> None:
    """Say that two ranges are the same.

    Raises:
        Unexplained: if what is known of them does not fit together.
    """
    first, second = resolved(one), resolved(other)
    if all(f.kept for f in first) and all(f.kept for f in second):
        return
    if count_of(first) != count_of(second):
        raise Unexplained(f"dimensions of {count_of(first)} and {count_of(second)} coordinates meet")
    while first and second:
        x, y = found(first.pop(0)), found(second.pop(0))
        if x is y:
            continue
        if x.count == y.count:
            _unify_factors(x, y)
        elif y.count[0] % x.count[0] == 0 and y.count[1] % x.count[1] == 0:
            outer, inner = divide(y, x.count)
            unify([x], outer)
            second = [*resolved(inner), *second]
        elif x.count[0] % y.count[0] == 0 and x.count[1] % y.count[1] == 0:
            outer, inner = divide(x, y.count)
            unify(outer, [y])
            first = [*resolved(inner), *first]
        else:
            raise Unexplained(f"a dimension is {one} in one place and {other} in another")
        if any(factor.kind == "product" for factor in map(found, [*first, *second])):
            first, second = resolved(first), resolved(second)


def _unify_factors(x: Factor, y: Factor) -> None:
    x, y = found(x), found(y)
    if x is y or x.kept:
        return
    if x.kind == "product" or y.kind == "product":
        unify([x], [y])
    elif x.kind == "free":
        x.link, y.averaged = y, y.averaged or x.averaged
    elif y.kind == "free":
        y.link, x.averaged = x, y.averaged or x.averaged
    else:
        _unify_pieces(x, y)


def _unify_pieces(x: Factor, y: Factor) -> None:
    """Two concatenations: each is cut where the other is, and the pieces are unified."""
    for one, other in ((x, y), (y, x)):
        n = m = 0
        for piece in list(other.parts)[:-1]:
            a, b = count_of(piece)
            n, m = n + a, m + b
            _cut_factor(found(one), (n, m))
    x, y = found(x), found(y)
    if x is y:
        return
    if len(x.parts) != len(y.parts):
        raise Unexplained(f"a dimension is {x} in one place and {y} in another")
    for one, other in zip(list(x.parts), list(y.parts), strict=True):
        unify(one, other)
    if found(x) is not found(y):
        found(x).link = found(y)


def sources(parts: Range) -> list[int]:
    """Which old coordinate each new one copies, if every free factor is repeated as a whole."""
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
