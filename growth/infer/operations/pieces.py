"""Pieces of dimensions, and dimensions made of pieces."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from growth.infer.cuts import between
from growth.infer.errors import Unexplained
from growth.infer.ranges import Count, Range, count_of, fresh, grows, join, kept
from growth.infer.scales import ONE, Scale
from growth.infer.unification import split, unify
from growth.infer.values import Pair, Value, copy_of, of, operation
from growth.infer.walk import Walk


@operation("slice", "slice_copy")
def slice_(walk: Walk, pair: Pair) -> list[Value]:
    """Part of a dimension, or every n-th entry of it: it is cut there."""
    value = walk.pair(pair, "self")
    at = pair.get("dim") % len(value.ranges)
    step = pair.get("step") or 1
    whole = count_of(value.ranges[at])
    bounds = []
    for i in (0, 1):
        start, end = pair["start"][i], pair["end"][i]
        bounds.append(slice(start, end).indices(whole[i])[:2])
    ranges = list(value.ranges)
    if step == 1:
        starts, ends = (bounds[0][0], bounds[1][0]), (bounds[0][1], bounds[1][1])
        ranges[at] = between(ranges[at], starts, (max(starts[0], ends[0]), max(starts[1], ends[1])))
    else:
        ranges[at] = _every(ranges[at], step, whole, (bounds[0][1], bounds[1][1]))
    return [copy_of(value, ranges)]


def _every(parts: Range, step: int, whole: Count, end: Count) -> Range:
    if not grows(parts):
        n = -(-end[0] // step)
        return kept(n) if whole[0] % step else kept(whole[0] // step)
    if whole[0] % step or whole[1] % step:
        raise Unexplained(f"every {step}th coordinate of a dimension that grows is taken")
    return split(parts, [(whole[0] // step, whole[1] // step), (step, step)])[0]


@operation(
    *(
        "split", "split_with_sizes", "split_copy", "split_with_sizes_copy", "unsafe_split", "chunk", "tensor_split",
        "unsafe_chunk",
    )
)  # fmt: skip
def split_(walk: Walk, pair: Pair) -> list[Value]:
    """A dimension cut into parts."""
    value = walk.pair(pair, "self")
    at = pair.get("dim", 0) % len(value.ranges)
    results, n, m = [], 0, 0
    for one, other in zip(pair.one.out, pair.other.out, strict=True):
        a, b = one.shape[at], other.shape[at]
        ranges = list(value.ranges)
        ranges[at] = between(ranges[at], (n, m), (n + a, m + b))
        results.append(copy_of(value, ranges))
        n, m = n + a, m + b
    return results


@operation("narrow")
def narrow(walk: Walk, pair: Pair) -> list[Value]:
    """Part of a dimension."""
    value = walk.pair(pair, "self")
    at = pair.get("dim") % len(value.ranges)
    (a, b), (x, y) = pair["start"], pair["length"]
    ranges = list(value.ranges)
    ranges[at] = between(ranges[at], (a, b), (a + x, b + y))
    return [copy_of(value, ranges)]


@operation("cat", "concat")
def cat(walk: Walk, pair: Pair) -> list[Value]:
    """Ranges one behind the other."""
    tensors = [(a, b) for a, b in zip(*pair["tensors"], strict=True) if not (a.dim() == 1 and a.numel() == 0)]
    values = [walk.value(a, b) for a, b in tensors]
    at = pair.get("dim", 0) % len(values[0].ranges)
    scale = _equal(walk, values, [a for a, _ in tensors])
    ranges = []
    for d in range(len(values[0].ranges)):
        if d == at:
            ranges.append(join([value.ranges[d] for value in values]))
            continue
        for value in values[1:]:
            unify(values[0].ranges[d], value.ranges[d])
        ranges.append(values[0].ranges[d])
    return [of(ranges, scale)]


@operation("stack")
def stack(walk: Walk, pair: Pair) -> list[Value]:
    """Tensors that are laid out alike, along a new dimension."""
    values = [walk.value(a, b) for a, b in zip(*pair["tensors"], strict=True)]
    scale = _equal(walk, values, pair["tensors"][0])
    for value in values[1:]:
        for one, other in zip(values[0].ranges, value.ranges, strict=True):
            unify(one, other)
    at = pair.get("dim", 0) % (len(values[0].ranges) + 1)
    n, m = len(pair["tensors"][0]), len(pair["tensors"][1])
    ranges = list(values[0].ranges)
    ranges.insert(at, fresh((n, m)))
    return [of(ranges, scale)]


def _equal(walk: Walk, values: Sequence[Value], tensors: Sequence[Tensor]) -> Scale:
    floats = [v for v, t in zip(values, tensors, strict=True) if t.is_floating_point() and t.numel()]
    for value in floats[1:]:
        walk.scales.equal(floats[0].scale, value.scale)
    return floats[0].scale if floats else ONE
