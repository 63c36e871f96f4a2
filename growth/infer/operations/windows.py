"""Windows over dimensions that do not grow: padding, unfolding, strided views."""

from __future__ import annotations

import math

from growth.infer.errors import Unexplained
from growth.infer.ranges import count_of, grows, join, kept
from growth.infer.values import Pair, Value, copy_of, operation
from growth.infer.walk import Walk


@operation("constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d", "pad")
def pad(walk: Walk, pair: Pair) -> list[Value]:
    """More entries at the ends of a dimension that does not grow."""
    value = walk.pair(pair, "self")
    if pair.one.arguments.get("value") not in (None, 0, 0.0):
        walk.zero(value.scale)
    padded = pair.get("pad") if "pad" in pair.one.arguments else pair.get("padding")
    ranges = list(value.ranges)
    for d in range(len(ranges)):
        n, m = pair.one.out.shape[d], pair.other.out.shape[d]
        if (n, m) != count_of(ranges[d]):
            before = padded[2 * (len(ranges) - 1 - d)]
            after = padded[2 * (len(ranges) - 1 - d) + 1]
            if not grows(ranges[d]):
                ranges[d] = kept(n)
            else:
                ranges[d] = join([kept(max(before, 0)), ranges[d], kept(max(after, 0))])
    return [copy_of(value, ranges)]


@operation("im2col")
def im2col(walk: Walk, pair: Pair) -> list[Value]:
    """``[batch, channels, *places]`` -> ``[batch, channels * window, windows]``."""
    value = walk.pair(pair, "self")
    if any(map(grows, value.ranges[2:])):
        raise Unexplained(
            "it takes windows of neighbouring features, and a wider model has other neighbours in each window"
        )
    window = math.prod(pair.get("kernel_size"))
    out = pair.one.out
    return [copy_of(value, [value.ranges[0], [*value.ranges[1], *kept(window)], kept(out.shape[2])])]


@operation("as_strided")
def as_strided(walk: Walk, pair: Pair) -> list[Value]:
    """Overlapping windows: a dimension that grows must come through as it is."""
    value = walk.pair(pair, "self")
    one, other = pair["self"]
    ranges = walk.shape(pair.one.out, pair.other.out)
    for d, parts in enumerate(value.ranges):
        if not grows(parts):
            continue
        places = [
            place
            for place, count in enumerate(zip(pair.one.out.shape, pair.other.out.shape, strict=True))
            if count == count_of(parts)
            and (pair["stride"][0][place], pair["stride"][1][place]) == (one.stride(d), other.stride(d))
        ]
        if len(places) != 1:
            raise Unexplained("a dimension that grows is rearranged")
        ranges[places[0]] = parts
    if any(not f.kept and f not in [g for p in value.ranges for g in p] for parts in ranges for f in parts):
        raise Unexplained("a dimension that grows is rearranged")
    return [copy_of(value, ranges)]


@operation("unfold", "diagonal", "tril", "triu", "diag_embed", "pixel_shuffle", "pixel_unshuffle")
def on_kept(walk: Walk, pair: Pair) -> list[Value]:
    """Dimensions of the input keep their place where their size does; none that grows may be rearranged."""
    value = walk.pair(pair, next(iter(pair.one.arguments)))
    out = pair.one.out
    if pair.name in ("tril", "triu"):
        return [copy_of(value, value.ranges)]
    if pair.name == "unfold":
        at = pair.get("dimension") % len(value.ranges)
        if not grows(value.ranges[at]):
            ranges = list(value.ranges)
            ranges[at] = kept(out.shape[at])
            return [copy_of(value, [*ranges, kept(out.shape[-1])])]
    if value.grows:
        raise Unexplained("a dimension that grows is rearranged")
    return [copy_of(value, walk.shape(out, pair.other.out))]
