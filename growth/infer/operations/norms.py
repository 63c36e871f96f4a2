"""Norms that torch has as one operation. What enters may not scale, since an epsilon is added to its variance."""

from __future__ import annotations

from growth.infer.operations.reductions import average
from growth.infer.ranges import Range, grows
from growth.infer.scales import ONE, Scale
from growth.infer.unification import split, unify
from growth.infer.values import Pair, Value, of, operation
from growth.infer.walk import Walk


def _affine(walk: Walk, pair: Pair, ranges: list[Range]) -> Scale:
    """The scale of what a gain and a bias make of normalised values."""
    scale = ONE
    weight, bias = pair["weight"], pair.one.arguments.get("bias")
    if weight[0] is not None:
        gain = walk.value(*weight)
        for one, other in zip(ranges, gain.ranges, strict=True):
            unify(one, other)
        scale = gain.scale
    if bias is not None:
        shift = walk.value(*pair["bias"])
        for one, other in zip(ranges, shift.ranges, strict=True):
            unify(one, other)
        walk.scales.equal(shift.scale, scale)
    return scale


@operation("native_layer_norm", "layer_norm", "_fused_rms_norm", "rms_norm")
def layer_norm(walk: Walk, pair: Pair) -> list[Value]:
    """The mean and the length are taken over the last dimensions; gain and bias follow."""
    value = walk.pair(pair, "input")
    over = value.ranges[len(value.ranges) - len(pair["normalized_shape"][0]) :]
    for parts in over:
        if grows(parts):
            average(walk, parts)
    walk.zero(value.scale)
    return [of(value.ranges, _affine(walk, pair, over)), *walk.outputs(pair)[1:]]


@operation("native_group_norm", "group_norm")
def group_norm(walk: Walk, pair: Pair) -> list[Value]:
    """Groups of channels, each normalised by itself: the channels of a group grow together."""
    value = walk.pair(pair, "input")
    channels = value.ranges[1]
    n, m = pair.one.out[0].shape[1], pair.other.out[0].shape[1]
    g, h = pair["group"] if "group" in pair.one.arguments else pair["num_groups"]
    _, inner = split(channels, [(g, h), (n // g, m // h)])
    if grows(inner):
        average(walk, inner)
    walk.zero(value.scale)
    return [of(value.ranges, _affine(walk, pair, [channels])), *walk.outputs(pair)[1:]]


@operation(
    "native_batch_norm",
    "_native_batch_norm_legit_no_training",
    "batch_norm",
    "_batch_norm_no_update",
    "cudnn_batch_norm",
)
def batch_norm(walk: Walk, pair: Pair) -> list[Value]:
    """Statistics of every channel that the model holds: they are copied with it."""
    value = walk.pair(pair, "input")
    walk.zero(value.scale)
    for name in ("running_mean", "running_var"):
        if pair.one.arguments.get(name) is not None:
            table = walk.pair(pair, name)
            unify(table.ranges[0], value.ranges[1])
            walk.zero(table.scale)
    return [of(value.ranges, _affine(walk, pair, [value.ranges[1]])), *walk.outputs(pair)[1:]]
