"""Rows picked and put by number. Dimensions that are picked from do not grow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from growth.infer.cuts import between
from growth.infer.errors import Unexplained
from growth.infer.operations.pointwise import broadcast
from growth.infer.ranges import Range, count_of, fresh, grows, kept
from growth.infer.scales import ONE
from growth.infer.unification import split, unify
from growth.infer.values import Pair, Value, copy_of, of, operation
from growth.infer.walk import Walk


def _no_growth(parts: Range) -> None:
    if grows(parts):
        raise Unexplained("coordinates of a dimension that grows are picked by number")


@operation("embedding")
def embedding(walk: Walk, pair: Pair) -> list[Value]:
    """Rows of a table: what it has beside its rows passes."""
    weight, indices = walk.pair(pair, "weight"), walk.pair(pair, "indices")
    _no_growth(weight.ranges[0])
    return [of([*indices.ranges, *weight.ranges[1:]], weight.scale)]


@operation("_embedding_bag", "_embedding_bag_forward_only", "embedding_bag")
def embedding_bag(walk: Walk, pair: Pair) -> list[Value]:
    """Sums, means or maxima over rows of a table."""
    weight = walk.pair(pair, "weight")
    _no_growth(weight.ranges[0])
    bags = walk.shape(pair.one.out[0], pair.other.out[0])[0]
    return [of([bags, weight.ranges[1]], weight.scale), *walk.outputs(pair)[1:]]


@operation("index_select")
def index_select(walk: Walk, pair: Pair) -> list[Value]:
    """Entries of one dimension by number, as in `index`."""
    value = walk.pair(pair, "self")
    at = pair.get("dim") % len(value.ranges)
    _no_growth(value.ranges[at])
    ranges = list(value.ranges)
    ranges[at] = walk.pair(pair, "index").ranges[0]
    return [copy_of(value, ranges)]


@operation("index", "_unsafe_index")
def index(walk: Walk, pair: Pair) -> list[Value]:
    """``x[i, :, j]``: see `_indexed`."""
    value = walk.pair(pair, "self")
    return [copy_of(value, _indexed(walk, pair, value))]


def _indexed(walk: Walk, pair: Pair, value: Value) -> list[Range]:
    """The ranges of ``x[i, :, j]``."""
    given = list(zip(*pair["indices"], strict=True))
    picked: list[int] = []
    numbers, at = [], 0
    for one, other in given:
        if one is None:
            at += 1
            continue
        if one.dtype in (torch.bool, torch.uint8):
            numbers.append(of([_chosen(one, other, value.ranges[at : at + one.dim()])], ONE))
            picked += range(at, at + one.dim())
            at += one.dim()
            continue
        picked.append(at)
        if one.numel() == 1 and walk.is_constant(one) and grows(value.ranges[at]):
            n, m = count_of(value.ranges[at])
            i, j = range(n)[int(one)], range(m)[int(other)]
            between(value.ranges[at], (i, j), (i + 1, j + 1))
        else:
            _no_growth(value.ranges[at])
        numbers.append(walk.value(one, other))
        at += 1
    together = broadcast(numbers)
    rest = [(d, parts) for d, parts in enumerate(value.ranges) if d not in picked]
    neighbours = picked == list(range(picked[0], picked[-1] + 1))
    place = picked[0] if neighbours else 0
    before = [parts for d, parts in rest if d < place]
    after = [parts for d, parts in rest if d >= place]
    return [*before, *together, *after]


def _chosen(one: Tensor, other: Tensor, ranges: Sequence[Range]) -> Range:
    """What a mask leaves of the dimensions that it covers. Of those that grow it must take all coordinates or none."""
    whole: Range = []
    for d, parts in enumerate(ranges):
        if not grows(parts):
            if whole:
                raise Unexplained("a mask over a dimension that grows, and over another one behind it")
            continue
        first, wide_first = one.select(d, 0).unsqueeze(d), other.select(d, 0).unsqueeze(d)
        if not bool((one == first).all()) or not bool((other == wide_first).all()):
            raise Unexplained("coordinates of a dimension that grows are picked by a mask")
        whole += parts
    n, m = count_of(whole)
    return [*fresh((int(one.sum()) // n, int(other.sum()) // m)), *whole]


@operation("index_put", "_index_put_impl", "_unsafe_index_put")
def index_put(walk: Walk, pair: Pair) -> list[Value]:
    """``x[i] = y``: what is put is laid out as the place it is put in, and scales as it."""
    value, values = walk.pair(pair, "self"), walk.pair(pair, "values")
    target = of(_indexed(walk, pair, value), value.scale)
    broadcast([target, values])
    if pair.one.arguments["values"].is_floating_point():
        walk.scales.equal(value.scale, values.scale)
    return [value]


@operation("index_add", "index_copy", "scatter", "scatter_add", "scatter_reduce", "index_fill")
def put(walk: Walk, pair: Pair) -> list[Value]:
    """Entries written or added by number: they scale as what they are written into."""
    value = walk.pair(pair, "self")
    at = pair.get("dim") % max(len(value.ranges), 1)
    _no_growth(value.ranges[at])
    index = walk.pair(pair, "index")
    name = next((n for n in ("source", "src") if n in pair.one.arguments), None)
    if name is None:
        return [of(value.ranges, value.scale)]
    source = walk.pair(pair, name)
    per_row = pair.name.startswith("index")
    for d, parts in enumerate(source.ranges):
        if d != at:
            unify(value.ranges[d], parts)
            if not per_row:
                unify(index.ranges[d], parts)
    if pair.one.arguments[name].is_floating_point():
        walk.scales.equal(value.scale, source.scale)
    return [of(value.ranges, value.scale)]


@operation("gather", "take_along_dim")
def gather(walk: Walk, pair: Pair) -> list[Value]:
    """Entries by number: no number may be one of a dimension that grows."""
    value, index = walk.pair(pair, "self"), walk.pair(pair, "index")
    at = pair.get("dim") % len(value.ranges)
    _no_growth(value.ranges[at])
    ranges = []
    for d, parts in enumerate(index.ranges):
        if d != at and grows(parts):
            unify(parts, value.ranges[d])
        ranges.append(parts)
    return [copy_of(value, ranges)]


@operation("topk", "sort", "argsort", "msort")
def sort(walk: Walk, pair: Pair) -> list[Value]:
    """In order of size: not along a dimension that grows, where copies would be chosen twice."""
    value = walk.pair(pair, "self")
    at = pair.get("dim", -1) % len(value.ranges)
    if grows(value.ranges[at]):
        raise Unexplained(f"'{pair.name}' over a dimension that grows")
    outs = pair.one.out if isinstance(pair.one.out, tuple) else (pair.one.out,)
    ranges = list(value.ranges)
    ranges[at] = kept(outs[0].shape[at])
    return [of(ranges, value.scale if out.is_floating_point() else ONE) for out in outs]


@operation("masked_scatter")
def masked_scatter(walk: Walk, pair: Pair) -> list[Value]:
    """Rows of ``source`` in the places of a mask that covers whole rows."""
    value, source = walk.pair(pair, "self"), walk.pair(pair, "source")
    mask = pair["mask"][0]
    broadcast([value, walk.pair(pair, "mask")])
    if value.grows:
        whole = mask.expand(pair["self"][0].shape) if mask.shape != pair["self"][0].shape else mask
        if not bool((whole == whole[..., :1]).all()):
            raise Unexplained("some coordinates of a dimension that grows are replaced, and others not")
        (n, m), (a, b) = count_of(value.ranges[-1]), count_of(source.ranges[-1])
        if a % n or b % m:
            raise Unexplained(f"rows of {n} and {m} coordinates are filled from {a} and {b}")
        unify(value.ranges[-1], split(source.ranges[-1], [(a // n, b // m), (n, m)])[1])
    walk.scales.equal(value.scale, source.scale)
    return [of(value.ranges, value.scale)]


@operation(
    *(
        "one_hot", "nonzero", "unique", "_unique2", "bincount", "histc", "bucketize", "searchsorted",
        "unique_consecutive", "multinomial",
    )
)  # fmt: skip
def numbers(walk: Walk, pair: Pair) -> list[Value]:
    """Whole numbers made from values that do not grow."""
    for name in pair.one.arguments:
        one, other = pair[name]
        if isinstance(one, Tensor):
            value = walk.value(one, other)
            if value.grows and one.is_floating_point():
                raise Unexplained(f"'{pair.name}' of values that grow")
    return walk.outputs(pair)
