"""Sums of products: matrices, convolutions, attention."""

from __future__ import annotations

import math

from growth.infer.errors import Unexplained
from growth.infer.operations.pointwise import broadcast
from growth.infer.ranges import Range, count_of, grows, kept
from growth.infer.scales import ONE, Scale
from growth.infer.unification import split, unify
from growth.infer.values import Pair, Value, of, operation
from growth.infer.walk import Walk


def product(walk: Walk, one: Value, other: Value, over: tuple[Range, Range]) -> Scale:
    """The scale of a sum of products over a range that both have."""
    unify(*over)
    parts = over[1] if grows(over[1]) else over[0]
    return walk.summed(parts, one, other, own=over)


@operation("mm", "matmul")
def mm(walk: Walk, pair: Pair) -> list[Value]:
    """A matrix product, in 2 dimensions."""
    one, other = walk.pair(pair, "self"), walk.pair(pair, "mat2" if "mat2" in pair.one.arguments else "other")
    scale = product(walk, one, other, (one.ranges[1], other.ranges[0]))
    return [of([one.ranges[0], other.ranges[1]], scale)]


@operation("bmm")
def bmm(walk: Walk, pair: Pair) -> list[Value]:
    """Matrix products, one for each entry of the first dimension."""
    one, other = walk.pair(pair, "self"), walk.pair(pair, "mat2")
    unify(one.ranges[0], other.ranges[0])
    scale = product(walk, one, other, (one.ranges[2], other.ranges[1]))
    return [of([one.ranges[0], one.ranges[1], other.ranges[2]], scale)]


@operation("mv", "dot", "vdot")
def mv(walk: Walk, pair: Pair) -> list[Value]:
    """A matrix and a vector, or two vectors."""
    vector = next(name for name in ("vec", "tensor", "other") if name in pair.one.arguments)
    one, other = walk.pair(pair, "self"), walk.pair(pair, vector)
    scale = product(walk, one, other, (one.ranges[-1], other.ranges[0]))
    return [of(one.ranges[:-1], scale)]


@operation("addmm", "baddbmm")
def addmm(walk: Walk, pair: Pair) -> list[Value]:
    """``x + A B``: the addend scales as the product."""
    batched = pair.name.startswith("b")
    names = ("batch1", "batch2") if batched else ("mat1", "mat2")
    one, other = (walk.pair(pair, name) for name in names)
    bias = walk.pair(pair, "self")
    if batched:
        unify(one.ranges[0], other.ranges[0])
    alpha, beta = pair["alpha"], pair["beta"]
    scale = product(walk, one, other, (one.ranges[-1], other.ranges[-2]))
    if alpha[0] != alpha[1]:
        scale = scale.plus(math.log(alpha[1] / alpha[0]))
    out = of([*one.ranges[:-1], other.ranges[-1]], scale)
    if beta[0] != 0:
        walk.scales.equal(bias.scale, scale)
        return [of(broadcast([out, bias]), scale)]
    return [out]


@operation("linear")
def linear(walk: Walk, pair: Pair) -> list[Value]:
    """``x W^T + b``."""
    x, weight = walk.pair(pair, "input"), walk.pair(pair, "weight")
    scale = product(walk, x, weight, (x.ranges[-1], weight.ranges[1]))
    out = of([*x.ranges[:-1], weight.ranges[0]], scale)
    if pair["bias"][0] is not None:
        bias = walk.pair(pair, "bias")
        walk.scales.equal(bias.scale, scale)
        broadcast([out, bias])
    return [out]


@operation(
    "convolution", "_convolution", "conv1d", "conv2d", "conv3d", "convolution_overrideable", "mkldnn_convolution"
)
def convolution(walk: Walk, pair: Pair) -> list[Value]:
    """``[batch, channels in, *places]`` with ``weight [channels out, channels in / groups, *window]``."""
    x, weight = walk.pair(pair, "input"), walk.pair(pair, "weight")
    groups = pair["groups"]
    transposed = bool(pair.one.arguments.get("transposed"))
    entering, leaving = (weight.ranges[0], weight.ranges[1]) if transposed else (weight.ranges[1], weight.ranges[0])
    batched = len(x.ranges) == len(weight.ranges)
    channels = x.ranges[1] if batched else x.ranges[0]
    if groups == (1, 1):
        scale = product(walk, x, weight, (channels, entering))
        out_channels = leaving
    else:
        out_channels, scale = _grouped(walk, x, weight, (channels, entering, leaving), groups, transposed)
    places = [kept(n) for n in pair.one.out.shape[2 if batched else 1 :]]
    ranges = [*x.ranges[:1], out_channels, *places] if batched else [out_channels, *places]
    if pair["bias"][0] is not None:
        bias = walk.pair(pair, "bias")
        unify(out_channels, bias.ranges[0])
        walk.scales.equal(bias.scale, scale)
    return [of(ranges, scale)]


def _grouped(
    walk: Walk, x: Value, weight: Value, ranges: tuple[Range, Range, Range], groups: tuple[int, int], transposed: bool
) -> tuple[Range, Scale]:
    channels, entering, leaving = ranges
    inner = count_of(entering if not transposed else leaving)
    if transposed:
        raise Unexplained("a transposed convolution in groups")
    in_group, in_inner = split(channels, [groups, inner])
    n, m = count_of(leaving)
    out_group, out_inner = split(leaving, [groups, (n // groups[0], m // groups[1])])
    unify(in_group, out_group)
    scale = product(walk, x, weight, (in_inner, entering))
    return [*out_group, *out_inner], scale


@operation(
    "scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_attention_math", "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
)  # fmt: skip
def attention(walk: Walk, pair: Pair) -> list[Value]:
    """Queries and keys are summed over; the scores pass through a softmax; values are mixed."""
    query, key, value = (walk.pair(pair, name) for name in ("query", "key", "value"))
    unify(key.ranges[1], value.ranges[1])
    if (counts := count_of(key.ranges[1])) == (whole := count_of(query.ranges[1])):
        unify(query.ranges[1], key.ranges[1])
    else:  # several queries share a key and value
        shared, _ = split(query.ranges[1], [counts, (whole[0] // counts[0], whole[1] // counts[1])])
        unify(shared, key.ranges[1])
    scores = product(walk, query, key, (query.ranges[-1], key.ranges[-1]))
    n, m = count_of(query.ranges[-1])
    given = pair["scale"]
    if given[0] is None:
        scores = scores.plus(0.5 * math.log(n / m))
    elif given[0] != given[1]:
        scores = scores.plus(math.log(given[1] / given[0]))
    walk.zero(scores)
    out = of([*query.ranges[:-1], value.ranges[-1]], value.scale)
    return [out, *walk.outputs(pair)[1:]]


@operation("_weight_norm", "_weight_norm_interface", "weight_norm")
def weight_norm(walk: Walk, pair: Pair) -> list[Value]:
    """``g v / |v|``, with the length over all dimensions but one."""
    v, g = walk.pair(pair, "v"), walk.pair(pair, "g")
    dim = pair.get("dim") % len(v.ranges)
    scale: Scale = v.scale * 2.0
    for d, parts in enumerate(v.ranges):
        if d != dim and grows(parts):
            scale = walk.summed(parts, of(v.ranges, scale))
    unify(v.ranges[dim], g.ranges[dim])
    return [of(v.ranges, g.scale + v.scale - scale * 0.5), of(g.ranges, scale * 0.5)]


@operation("linalg_solve_triangular", "triangular_solve", "linalg_inv_ex", "linalg_inv", "_linalg_solve_ex")
def solved(walk: Walk, pair: Pair) -> list[Value]:
    """``X`` with ``A X = B``: the two last dimensions of A do not grow."""
    one = walk.pair(pair, "A" if "A" in pair.one.arguments else "self")
    other = walk.pair(pair, "B") if "B" in pair.one.arguments else one
    if any(map(grows, one.ranges[-2:])):
        raise Unexplained("a system of equations along a dimension that grows")
    lead = broadcast([of(one.ranges[:-2], ONE), of(other.ranges[:-2], ONE)])
    walk.zero(one.scale)
    outs = pair.one.out if isinstance(pair.one.out, tuple) else (pair.one.out,)
    return [of([*lead, *other.ranges[-2:]][: out.dim()], other.scale) for out in outs]
