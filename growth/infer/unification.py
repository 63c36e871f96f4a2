"""Ranges that are the same: dividing a range as a view does, and saying that two ranges are one.

Both may find out more about the factors of a range (`growth.infer.ranges`), and both refuse what contradicts what is
known."""

from __future__ import annotations

from collections.abc import Sequence

from growth.infer.cuts import cut_factor
from growth.infer.errors import Unexplained
from growth.infer.ranges import (
    Count,
    Factor,
    Range,
    count_of,
    counted,
    described,
    found,
    fresh,
    grows,
    join,
    kept,
    resolved,
)


def divide(factor: Factor, outer: Count) -> tuple[Range, Range]:
    """A factor as a product ``outer * inner``.

    Raises:
        Unexplained: if it does not divide so.

    Example:
        >>> heads, inside = divide(Factor((36, 72)), (3, 6))
        >>> count_of(heads), count_of(inside)
        ((3, 6), (12, 12))
    """
    factor = found(factor)
    (n, m), (a, b) = factor.count, outer
    if a == 0 or b == 0 or n % a or m % b:
        raise Unexplained(f"{counted((n, m))} coordinates are no multiple of {counted((a, b))}")
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
        halves = [
            split(piece, [(c[0] // inner[0], c[1] // inner[1]), inner])
            for piece, c in zip(pieces, counts, strict=True)
        ]
        for half in halves[1:]:
            unify(halves[0][1], half[1])
        result = join([half[0] for half in halves]), halves[0][1]
    else:
        raise Unexplained(
            f"parts of {', '.join(map(counted, counts))} coordinates are viewed in rows of {counted(inner)}"
        )
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
                raise Unexplained(f"a view wants {counted((a, b))} coordinates where none are left")
            head = rest.pop(0)
            x, y = head.count
            if a % (n * x) == 0 and b % (m * y) == 0:
                taken.append(head)
                n, m = n * x, m * y
                continue
            if a % n or b % m:
                raise Unexplained(f"a view wants {counted((a, b))} coordinates, no whole rows of {counted((n, m))}")
            outer, inner = divide(head, (a // n, b // m))
            taken += outer
            rest = [*inner, *rest]
            n, m = a, b
        out.append(taken)
    if count_of(rest) != (1, 1):
        raise Unexplained(f"a view leaves {counted(count_of(rest))} coordinates over")
    return out


def unify(one: Range, other: Range) -> None:
    """Say that two ranges are the same.

    Raises:
        Unexplained: if what is known of them does not fit together.

    Example:
        >>> one, other = fresh((36, 72)), fresh((36, 72))
        >>> unify(one, other)
        >>> found(one[0]) is found(other[0])
        True
    """
    first, second = resolved(one), resolved(other)
    if not grows(first) and not grows(second):
        return
    if count_of(first) != count_of(second):
        raise Unexplained(
            f"a dimension of {counted(count_of(first))} coordinates meets one of {counted(count_of(second))}"
        )
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
            raise Unexplained(_apart(one, other))
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
            cut_factor(found(one), (n, m))
    x, y = found(x), found(y)
    if x is y:
        return
    if len(x.parts) != len(y.parts):
        raise Unexplained(_apart([x], [y]))
    for piece, partner in zip(list(x.parts), list(y.parts), strict=True):
        unify(piece, partner)
    if found(x) is not found(y):
        found(x).link = found(y)


def _apart(one: Range, other: Range) -> str:
    return (
        f"a dimension is laid out as {described(one)} in one place and as {described(other)} in another (in brackets: "
        "in a wider model)"
    )
