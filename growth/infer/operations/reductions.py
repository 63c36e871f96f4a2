"""Sums, means and the like over dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from growth.infer.errors import Unexplained
from growth.infer.ranges import Range, count_of, grows, growth_of, kept
from growth.infer.scales import ONE, Scale
from growth.infer.values import Pair, Value, of, operation
from growth.infer.walk import Walk


def _dims(pair: Pair, value: Value) -> list[int]:
    dims = pair.get("dim")
    n = len(value.ranges)
    if dims is None or dims == []:
        return list(range(n))
    return sorted({d % n for d in (dims if isinstance(dims, (list, tuple)) else [dims])}) if n else []


def _left(value: Value, dims: Sequence[int], keepdim: bool) -> list[Range]:
    return [kept(1) if d in dims else parts for d, parts in enumerate(value.ranges) if keepdim or d not in dims]


def _over(value: Value, dims: Sequence[int]) -> list[Range]:
    return [value.ranges[d] for d in dims if grows(value.ranges[d])]


@operation("sum", "nansum")
def total(walk: Walk, pair: Pair) -> list[Value]:
    """A sum over dimensions: as a product with ones."""
    value = walk.pair(pair, "self")
    dims = _dims(pair, value)
    scale = value.scale
    for parts in _over(value, dims):
        scale = walk.summed(parts, of(value.ranges, scale) if value.parameter is None else value)
    return [of(_left(value, dims, bool(pair.one.arguments.get("keepdim"))), scale)]


@operation("mean", "nanmean")
def mean(walk: Walk, pair: Pair) -> list[Value]:
    """A mean over dimensions, which the copies of a whole space leave as it is."""
    value = walk.pair(pair, "self")
    dims = _dims(pair, value)
    for parts in _over(value, dims):
        average(walk, parts)
    return [of(_left(value, dims, bool(pair.one.arguments.get("keepdim"))), value.scale)]


def average(walk: Walk, parts: Range) -> None:
    """Note that a mean is taken over a range: all its coordinates then need as many copies."""
    walk.averaged.append(parts)

    def say() -> None:
        if growth_of(parts) is None:
            raise Unexplained("a mean over parts that grow by different factors")

    walk.later(say)


@operation("var", "std", "var_mean", "std_mean")
def variance(walk: Walk, pair: Pair) -> list[Value]:
    """As `mean`, of squares."""
    value = walk.pair(pair, "self")
    dims = _dims(pair, value)
    growing = _over(value, dims)
    correction = pair.one.arguments.get("correction", pair.one.arguments.get("unbiased"))
    if growing and correction not in (0, 0.0, False):
        raise Unexplained("a variance with a correction (n - 1) over a dimension that grows")
    for parts in growing:
        average(walk, parts)
    ranges = _left(value, dims, bool(pair.one.arguments.get("keepdim")))
    spread = value.scale * (1.0 if "std" in pair.name else 2.0)
    return [of(ranges, spread), of(ranges, value.scale)]


@operation("amax", "amin", "max", "min", "aminmax", "median", "mode", "kthvalue")
def extreme(walk: Walk, pair: Pair) -> list[Value]:
    """The largest or smallest: over copies it is the same."""
    if "other" in pair.one.arguments:
        from growth.infer.operations.pointwise import alike

        return alike(walk, pair)
    value = walk.pair(pair, "self")
    dims = _dims(pair, value) if "dim" in pair.one.arguments else list(range(len(value.ranges)))
    if _over(value, dims) and isinstance(pair.one.out, tuple):
        raise Unexplained("the place of the largest coordinate of a dimension that grows")
    ranges = _left(value, dims, bool(pair.one.arguments.get("keepdim")))
    return [of(ranges, value.scale), of(ranges, ONE)]


@operation("argmax", "argmin", "any", "all", "count_nonzero", "logsumexp", "prod")
def of_kept(walk: Walk, pair: Pair) -> list[Value]:
    """What is taken over a dimension that does not grow."""
    value = walk.pair(pair, "self")
    dims = _dims(pair, value)
    if _over(value, dims) and pair.name not in ("any", "all"):
        raise Unexplained(f"'{pair.name}' over a dimension that grows")
    if pair.name in ("logsumexp", "prod"):
        walk.zero(value.scale)
    return [of(_left(value, dims, bool(pair.one.arguments.get("keepdim"))), ONE)]


@operation("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin", "_cummax_helper")
def running(walk: Walk, pair: Pair) -> list[Value]:
    """Sums up to each place of a dimension that does not grow."""
    value = walk.pair(pair, "self")
    if value.ranges and grows(value.ranges[pair.get("dim")]):
        raise Unexplained("a running sum over a dimension that grows")
    scale: Scale = value.scale
    if pair.name in ("cumprod", "logcumsumexp"):
        walk.zero(scale)
        scale = ONE
    return [of(value.ranges, scale), of(value.ranges, ONE)]


@operation("linalg_vector_norm", "norm")
def length(walk: Walk, pair: Pair) -> list[Value]:
    """A norm: the root of k over k copies."""
    value = walk.pair(pair, "self")
    order = pair.one.arguments.get("ord", pair.one.arguments.get("p", 2))
    order = 2 if order is None else order
    dims = _dims(pair, value)
    growing = _over(value, dims)
    ranges = _left(value, dims, bool(pair.one.arguments.get("keepdim")))
    if not growing or math.isinf(order):
        return [of(ranges, value.scale)]
    squared = of(value.ranges, value.scale * float(order))
    scale = squared.scale
    for parts in growing:
        scale = walk.summed(parts, of(value.ranges, scale))
    return [of(ranges, scale * (1.0 / float(order)))]


@operation("_fft_c2c", "_fft_r2c", "_fft_c2r")
def fourier(walk: Walk, pair: Pair) -> list[Value]:
    """A Fourier transform: along time it is a sum like any other, along features it is none of copies."""
    value = walk.pair(pair, "self")
    dims = _dims(pair, value)
    if _over(value, dims):
        raise Unexplained(
            "it takes a Fourier transform over features, and the spectrum of repeated features is no repetition of "
            "their spectrum"
        )
    ranges = [kept(pair.one.out.shape[d]) if d in dims else parts for d, parts in enumerate(value.ranges)]
    return [of(ranges, value.scale)]


@operation(
    *(
        "avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool1d", "max_pool2d", "max_pool2d_with_indices",
        "adaptive_avg_pool1d", "_adaptive_avg_pool2d", "adaptive_max_pool1d", "_adaptive_avg_pool3d",
        "upsample_bilinear2d", "upsample_nearest2d", "upsample_bicubic2d", "upsample_nearest1d", "upsample_linear1d",
        "_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa", "upsample_trilinear3d", "upsample_nearest3d",
        "grid_sampler_2d", "max_pool3d_with_indices",
    )
)  # fmt: skip
def pooled(walk: Walk, pair: Pair) -> list[Value]:
    """Windows over kept dimensions; channels pass, and so does a dimension whose windows hold one place."""
    value = walk.pair(pair, next(iter(pair.one.arguments)))
    outs = pair.one.out if isinstance(pair.one.out, tuple) else (pair.one.out,)
    ranges = []
    for d, n in enumerate(outs[0].shape):
        if not grows(value.ranges[d]):
            ranges.append(kept(n))
        elif n == count_of(value.ranges[d])[0] and (d < 2 or _one_place(pair, d - len(value.ranges))):
            ranges.append(value.ranges[d])
        else:
            raise Unexplained(
                "it takes windows of neighbouring features, and a wider model has other neighbours in each window"
            )
    return [of(ranges, value.scale) for _ in outs]


def _one_place(pair: Pair, d: int) -> bool:
    """Whether the windows along dimension ``d``, counted from the end, hold one place each."""
    windows = pair.get("kernel_size")
    return windows is not None and -d <= len(windows) and windows[d] == 1
