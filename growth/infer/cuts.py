"""A dimension cut into pieces, as a slice, a split or a concatenation does."""

from __future__ import annotations

from growth.infer.errors import Unexplained
from growth.infer.ranges import Count, Factor, Range, count_of, found, fresh, grows, join, kept, resolved


def cut(parts: Range, at: Count) -> None:
    """Make sure that a range has a boundary after ``at`` coordinates.

    Example:
        >>> fused = fresh((12, 24))
        >>> cut(fused, (4, 8))
        >>> [count_of(piece) for piece in fused[0].parts]
        [(4, 8), (8, 16)]
    """
    whole = resolved(parts)
    if at in ((0, 0), count_of(whole)) or not grows(whole):
        return
    head, inner = whole[0], whole[1:]
    n, m = count_of(inner)
    if at[0] % n or at[1] % m:
        raise Unexplained(f"a dimension is cut after {at[0]} coordinates, within rows of {n}")
    cut_factor(head, (at[0] // n, at[1] // m))


def cut_factor(factor: Factor, at: Count) -> None:
    """As `cut`, for one factor."""
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
    """The coordinates ``start .. end`` of a range, cut there if it is not yet.

    Example:
        >>> count_of(between(fresh((12, 24)), (4, 8), (12, 24)))
        (8, 16)
    """
    whole = resolved(parts)
    if start == (0, 0) and end == count_of(whole):
        return whole
    if not grows(whole):
        return fresh((end[0] - start[0], end[1] - start[1]))  # a number of tokens, which depends on the data
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
