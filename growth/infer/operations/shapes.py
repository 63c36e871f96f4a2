"""Operations that rearrange: views, slices, concatenations. Values keep their scale."""

from __future__ import annotations

from collections.abc import Sequence

from growth.infer.errors import Unexplained
from growth.infer.ranges import Count, Range, count_of, counted, described, fresh, grows, kept, sources
from growth.infer.scales import ONE
from growth.infer.unification import split
from growth.infer.values import Pair, Value, copy_of, of, operation
from growth.infer.walk import Walk


@operation(
    "clone", "detach", "alias", "_to_copy", "lift_fresh", "contiguous", "positive", "view_as_real", "dropout", "to",
    "lift_fresh_copy", "_conj", "resolve_conj", "native_dropout", "alias_copy", "detach_",
)  # fmt: skip
def same(walk: Walk, pair: Pair) -> list[Value]:
    """The same values in the same order."""
    value = walk.pair(pair, next(iter(pair.one.arguments)))
    if pair.name == "view_as_real":
        return [copy_of(value, [*value.ranges, kept(2)])]
    return [copy_of(value, value.ranges)]


@operation("view_as_complex")
def view_as_complex(walk: Walk, pair: Pair) -> list[Value]:
    """Pairs of values as complex numbers: the last dimension, 2, goes."""
    value = walk.pair(pair, "self")
    return [copy_of(value, value.ranges[:-1])]


@operation("view", "_unsafe_view", "_reshape_alias", "reshape", "view_copy")
def view(walk: Walk, pair: Pair) -> list[Value]:
    """Another shape: factors of the ranges are divided and multiplied."""
    value = walk.pair(pair, "self")
    out, partner = pair.one.out, pair.other.out
    if pair.one.arguments.get("size") is None:  # a view in another dtype
        return [copy_of(value, value.ranges)]
    if not out.numel():
        return [copy_of(value, walk.shape(out, partner))]
    target = list(zip(out.shape, partner.shape, strict=True))
    return [copy_of(value, reshaped(value.ranges, target))]


def reshaped(ranges: Sequence[Range], target: Sequence[Count]) -> list[Range]:
    """The ranges of a row-major view. Old and new dimensions are aligned in the smallest groups that have as many
    coordinates at both sizes.

    Example:
        >>> [len(parts) for parts in reshaped([kept(2), fresh((18, 36))], [(2, 2), (3, 6), (6, 6)])]
        [1, 1, 1]
    """
    out: list[Range] = []
    old, new = list(ranges), list(target)
    while old or new:
        if old and count_of(old[0]) == (1, 1) and not (new and new[0] == (1, 1)):
            old.pop(0)
            continue
        if new and new[0] == (1, 1):
            out.append(kept(1))
            new.pop(0)
            if old and count_of(old[0]) == (1, 1):
                old.pop(0)
            continue
        if not old or not new:
            raise Unexplained(
                f"a view from [{', '.join(map(described, ranges))}] to [{', '.join(map(counted, target))}] (in "
                "brackets: in a wider model)"
            )
        group, counts = list(old.pop(0)), [new.pop(0)]
        while count_of(group) != _product(counts):
            (a, b), (x, y) = count_of(group), _product(counts)
            if (x, y) == (a, b):
                break
            if (x < a or y < b) and new:
                counts.append(new.pop(0))
            elif old:
                group += old.pop(0)
            else:
                raise Unexplained(
                    f"a view from [{', '.join(map(described, ranges))}] to [{', '.join(map(counted, target))}] (in "
                    "brackets: in a wider model)"
                )
        out += split(group, counts)
    return out


def _product(counts: Sequence[Count]) -> Count:
    n = m = 1
    for a, b in counts:
        n, m = n * a, m * b
    return n, m


@operation("permute")
def permute(walk: Walk, pair: Pair) -> list[Value]:
    """Dimensions in another order."""
    value = walk.pair(pair, "self")
    return [copy_of(value, [value.ranges[d] for d in pair.get("dims")])]


@operation("transpose")
def transpose(walk: Walk, pair: Pair) -> list[Value]:
    """Two dimensions change places."""
    value = walk.pair(pair, "self")
    ranges = list(value.ranges)
    if ranges:
        a, b = pair.get("dim0"), pair.get("dim1")
        ranges[a], ranges[b] = ranges[b], ranges[a]
    return [copy_of(value, ranges)]


@operation("t", "numpy_T")
def t(walk: Walk, pair: Pair) -> list[Value]:
    """A matrix, transposed."""
    value = walk.pair(pair, "self")
    return [copy_of(value, value.ranges[::-1])]


@operation("unsqueeze")
def unsqueeze(walk: Walk, pair: Pair) -> list[Value]:
    """A new dimension of 1."""
    value = walk.pair(pair, "self")
    at = pair.get("dim") % (len(value.ranges) + 1)
    return [copy_of(value, [*value.ranges[:at], kept(1), *value.ranges[at:]])]


@operation("squeeze")
def squeeze(walk: Walk, pair: Pair) -> list[Value]:
    """Dimensions of 1 go."""
    value = walk.pair(pair, "self")
    dims = pair.get("dim")
    n = len(value.ranges)
    chosen = range(n) if dims is None else [d % n for d in (dims if isinstance(dims, (list, tuple)) else [dims])]
    gone = {d for d in chosen if count_of(value.ranges[d]) == (1, 1)}
    return [copy_of(value, [parts for d, parts in enumerate(value.ranges) if d not in gone])]


@operation("expand", "expand_copy")
def expand(walk: Walk, pair: Pair) -> list[Value]:
    """Dimensions of 1 are repeated: that many as the shape says."""
    value = walk.pair(pair, "self")
    out, partner = pair.one.out, pair.other.out
    new = out.dim() - len(value.ranges)
    ranges = []
    for d, (n, m) in enumerate(zip(out.shape, partner.shape, strict=True)):
        if d >= new and count_of(value.ranges[d - new]) == (n, m):
            ranges.append(value.ranges[d - new])
        else:
            ranges.append(fresh((n, m)))
    return [copy_of(value, ranges)]


@operation("repeat")
def repeat(walk: Walk, pair: Pair) -> list[Value]:
    """The whole is repeated along dimensions."""
    value = walk.pair(pair, "self")
    times = list(zip(*pair["repeats"], strict=True))
    ranges = [*[kept(1)] * (len(times) - len(value.ranges)), *value.ranges]
    return [
        copy_of(value, [
            [*fresh((n, m)), *parts] for (n, m), parts in zip(times, ranges, strict=True)
        ])
    ]  # fmt: skip


@operation("select")
def select(walk: Walk, pair: Pair) -> list[Value]:
    """One entry of a dimension."""
    value = walk.pair(pair, "self")
    at = pair.get("dim") % len(value.ranges)
    if grows(value.ranges[at]):
        only_copies(walk, value.ranges[at], pair["index"])
    return [copy_of(value, [parts for d, parts in enumerate(value.ranges) if d != at])]


def only_copies(walk: Walk, parts: Range, index: Count) -> None:
    """One coordinate is picked out of a range that grows: it must be a copy of the one that the small model picks."""

    def say() -> None:
        if sources(parts)[index[1]] != range(count_of(parts)[0])[index[0]]:
            raise Unexplained("one coordinate of a dimension that grows is picked out, and another in a wider model")

    walk.later(say)


@operation("unbind")
def unbind(walk: Walk, pair: Pair) -> list[Value]:
    """Every entry of a dimension for itself."""
    value = walk.pair(pair, "self")
    at = pair.get("dim") % len(value.ranges)
    if grows(value.ranges[at]):
        raise Unexplained("the coordinates of a dimension that grows are taken one by one")
    rest = [parts for d, parts in enumerate(value.ranges) if d != at]
    return [copy_of(value, rest) for _ in pair.one.out]


@operation("flip", "roll", "rot90")
def along(walk: Walk, pair: Pair) -> list[Value]:
    """Another order along a dimension that does not grow."""
    value = walk.pair(pair, "self")
    for d in pair.get("dims"):
        if grows(value.ranges[d]):
            raise Unexplained("the coordinates of a dimension that grows change their order")
    return [copy_of(value, value.ranges)]


@operation(
    "zeros", "zeros_like", "new_zeros", "empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"
)
def blank(walk: Walk, pair: Pair) -> list[Value]:
    """Zeros, or memory that is yet to be filled: they scale as one likes."""
    return [of(walk.shape(pair.one.out, pair.other.out), walk.scales.unknown())]


@operation(
    *(
        "full", "full_like", "new_full", "ones", "ones_like", "new_ones", "arange", "eye", "scalar_tensor", "linspace",
        "fill", "zero",
    )
)  # fmt: skip
def constant(walk: Walk, pair: Pair) -> list[Value]:
    """One number everywhere."""
    if pair.name in ("fill_", "zero_", "fill", "zero"):
        value = walk.pair(pair, "self")
        if pair.one.arguments.get("value") not in (None, 0, 0.0):
            walk.zero(value.scale)
        return [value]
    number = pair.one.arguments.get("fill_value")
    zero = number in (0, 0.0)
    return [of(walk.shape(pair.one.out, pair.other.out), walk.scales.unknown() if zero else ONE)]
