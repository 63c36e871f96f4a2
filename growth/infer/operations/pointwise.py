"""Operations coordinate by coordinate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from growth.infer.errors import Unexplained
from growth.infer.ranges import Range, count_of, grows, kept
from growth.infer.scales import ONE, Scale, plain
from growth.infer.unification import split, unify
from growth.infer.values import Pair, Value, copy_of, of, operation
from growth.infer.walk import Walk


def broadcast(values: Sequence[Value]) -> list[Range]:
    """The ranges of what several tensors give together, coordinate by coordinate."""
    dims = max(len(value.ranges) for value in values)
    out: list[Range] = []
    for d in range(dims):
        here = [v.ranges[d - dims + len(v.ranges)] for v in values if d - dims + len(v.ranges) >= 0]
        large = [parts for parts in here if count_of(parts) != (1, 1)]
        for parts in large[1:]:
            unify(large[0], parts)
        out.append(large[0] if large else kept(1))
    return out


def operand(walk: Walk, pair: Pair, name: str) -> Value | tuple[Any, Any]:
    """A tensor argument as its value; numbers as the two numbers."""
    one, other = pair[name]
    if isinstance(one, Tensor):
        return walk.value(one, other)
    return one, other


_LINEAR = (
    "neg", "abs", "relu", "leaky_relu", "real", "nan_to_num", "rrelu_with_noise", "conj", "conj_physical", "_neg_view",
)  # fmt: skip


@operation(*_LINEAR)
def linear(walk: Walk, pair: Pair) -> list[Value]:
    """``f(c x) = c f(x)`` for c > 0."""
    value = walk.pair(pair, "self")
    return [of(value.ranges, value.scale)]


_CURVED = (
    "exp", "exp2", "expm1", "sigmoid", "silu", "gelu", "tanh", "softplus", "mish", "elu", "selu", "celu", "erf", "log",
    "log2", "log1p", "sin", "cos", "hardswish", "hardsigmoid", "hardtanh", "log_sigmoid_forward", "logit", "relu6",
    "clamp", "clamp_min", "clamp_max", "threshold", "softshrink", "hardshrink", "atan", "floor", "round", "ceil",
    "trunc", "sinh", "cosh", "polar", "erfinv", "remainder", "fmod", "floor_divide", "log10", "tan", "frac", "glu_jvp",
)  # fmt: skip


@operation("curved", *_CURVED)
def curved(walk: Walk, pair: Pair) -> list[Value]:
    """A function of each value: its argument may not scale."""
    values = []
    for name in pair.one.arguments:
        found = operand(walk, pair, name)
        if isinstance(found, Value):
            values.append(found)
        elif isinstance(found[0], (int, float, str, type(None))) and found[0] != found[1]:
            raise Unexplained(f"its argument '{name}' depends on the width ({found[0]} and {found[1]})")
    bounds = [pair.one.arguments.get(name) for name in ("min", "max")]
    if (
        pair.name.rstrip("_") in ("clamp", "clamp_min")
        and len(values) == 1
        and plain(bounds[0])
        and bounds == [0, None]
    ):
        scale = values[0].scale  # a ReLU
    else:
        for value in values:
            walk.zero(value.scale)
        scale = ONE
    ranges = broadcast(values)
    count = len(pair.one.out) if isinstance(pair.one.out, tuple) else 1
    return [of(ranges, scale)] * count


@operation("sign", "isnan", "isinf", "isfinite", "logical_not", "signbit", "bitwise_not", "is_nonzero")
def kind(walk: Walk, pair: Pair) -> list[Value]:
    """Whether a value is positive, finite, and so on: any scale above 0 gives the same."""
    return [of(walk.pair(pair, "self").ranges, ONE)]


_POWERS = {"sqrt": 0.5, "rsqrt": -0.5, "reciprocal": -1.0, "square": 2.0}


@operation(*_POWERS)
def root(walk: Walk, pair: Pair) -> list[Value]:
    """``f(c x) = c^p f(x)``."""
    value = walk.pair(pair, "self")
    return [of(value.ranges, value.scale * _POWERS[pair.name.rstrip("_")])]


@operation("pow", "float_power")
def power(walk: Walk, pair: Pair) -> list[Value]:
    """``x ** p`` for a number p: the scale is p times as large; curved for any other p."""
    base, exponent = operand(walk, pair, "self"), operand(walk, pair, "exponent")
    if isinstance(base, Value) and not isinstance(exponent, Value):
        if exponent[0] != exponent[1]:
            raise Unexplained("an exponent depends on the width")
        return [of(base.ranges, base.scale * float(exponent[0]))]
    values = [value for value in (base, exponent) if isinstance(value, Value)]
    for value in values:
        walk.zero(value.scale)
    return [of(broadcast(values), ONE)]


@operation("add", "sub", "rsub", "subtract")
def add(walk: Walk, pair: Pair) -> list[Value]:
    """Addends are laid out alike and scale alike."""
    one, other = operand(walk, pair, "self"), operand(walk, pair, "other")
    pair.get("alpha")
    if isinstance(one, Value) and isinstance(other, Value):
        if (shifted := _offset(walk, pair, one, other)) is not None:
            return [shifted]
        walk.scales.equal(one.scale, other.scale)
        return [of(broadcast([one, other]), one.scale)]
    value, number = (one, other) if isinstance(one, Value) else (other, one)
    assert isinstance(value, Value) and not isinstance(number, Value)
    if number[0] != number[1]:
        raise Unexplained(f"a number that is added depends on the width ({number[0]} and {number[1]})")
    if value.parameter is not None and pair.name == "add" and number[0] != 0:
        return [_shifted(walk, value, float(number[0]))]
    if number[0] != 0:
        walk.zero(value.scale)
    return [of(value.ranges, value.scale)]


def _shifted(walk: Walk, value: Value, by: float) -> Value:
    """A parameter plus a number, as in a gain of ``1 + w``: what is multiplied may scale, whatever w does then."""
    assert value.parameter is not None
    known = walk.offsets.setdefault(value.parameter, by)
    if known != by:
        raise Unexplained(f"{known} and {by} are added to one parameter")
    key = f"{value.parameter}+"
    if key not in walk.parameters:
        walk.parameters[key] = Value(value.ranges, walk.scales.unknown())
    return Value(value.ranges, walk.parameters[key].scale)


def _offset(walk: Walk, pair: Pair, one: Value, other: Value) -> Value | None:
    for name, value, addend in (("self", other, one), ("other", one, other)):
        tensor = pair[name][0]
        number = value.parameter and not addend.parameter and tensor.numel() == 1 and walk.is_constant(tensor)
        if number and float(tensor) == float(pair[name][1]) != 0:
            return _shifted(walk, value, float(tensor))
    return None


@operation("mul", "multiply", "div", "true_divide", "divide")
def multiply(walk: Walk, pair: Pair) -> list[Value]:
    """A product adds the logarithms of the scales, a quotient subtracts them."""
    sign = -1.0 if pair.name.rstrip("_") not in ("mul", "multiply") else 1.0
    one, other = operand(walk, pair, "self"), operand(walk, pair, "other")
    values = [value for value in (one, other) if isinstance(value, Value)]
    scale: Scale = one.scale if isinstance(one, Value) else _number(one)
    factor: Scale = other.scale if isinstance(other, Value) else _number(other)
    if pair.one.arguments.get("rounding_mode"):
        for value in values:
            walk.zero(value.scale)
        scale = factor = ONE
    total = scale + factor * sign
    return [of(broadcast(values), total)]


def _number(pair: tuple[Any, Any]) -> Scale:
    one, other = pair
    if one == other:
        return ONE
    if not plain(one) or not plain(other) or one == 0 or other / one <= 0:
        raise Unexplained(f"a factor depends on the width ({one} and {other})")
    return Scale(constant=math.log(other / one))


@operation("maximum", "minimum", "fmax", "fmin", "where", "atan2", "hypot", "complex")
def alike(walk: Walk, pair: Pair) -> list[Value]:
    """One of several values: they scale alike. Zeros and -inf scale as one likes."""
    values, floats = [], []
    for name in pair.one.arguments:
        found = operand(walk, pair, name)
        if isinstance(found, Value):
            values.append(found)
            if pair.one.arguments[name].is_floating_point() and name != "condition":
                floats.append(found)
        elif plain(found[0]) and found[0] not in (0, float("-inf")):
            floats.append(of([], ONE))
    for value in floats[1:]:
        walk.scales.equal(floats[0].scale, value.scale)
    scale = floats[0].scale if floats else ONE
    if pair.name == "where" and len(pair.one.arguments) == 1:
        return walk.outputs(pair)
    return [of(broadcast(values), scale)]


@operation("addcmul", "addcdiv")
def addcmul(walk: Walk, pair: Pair) -> list[Value]:
    """``x + c * y * z``."""
    value, one, other = (walk.pair(pair, name) for name in ("self", "tensor1", "tensor2"))
    sign = 1.0 if "mul" in pair.name else -1.0
    walk.scales.equal(value.scale, one.scale + other.scale * sign)
    return [of(broadcast([value, one, other]), value.scale)]


@operation("lerp")
def lerp(walk: Walk, pair: Pair) -> list[Value]:
    """``x + w * (y - x)``: the weight is a number or does not scale."""
    one, other, weight = walk.pair(pair, "self"), walk.pair(pair, "end"), operand(walk, pair, "weight")
    walk.scales.equal(one.scale, other.scale)
    values = [one, other]
    if isinstance(weight, Value):
        walk.zero(weight.scale)
        values.append(weight)
    return [of(broadcast(values), one.scale)]


@operation("softmax", "_softmax", "log_softmax", "_log_softmax", "_safe_softmax")
def softmax(walk: Walk, pair: Pair) -> list[Value]:
    """An exponential over a dimension that must be kept: copies would share what is one."""
    value = walk.pair(pair, "self")
    if grows(value.ranges[pair.get("dim")]):
        raise Unexplained("a softmax over a dimension that grows: every copy would take its share")
    walk.zero(value.scale)
    return [of(value.ranges, ONE)]


@operation("copy")
def copy(walk: Walk, pair: Pair) -> list[Value]:
    """The values of the source in the shape of the target."""
    value, source = walk.pair(pair, "self"), walk.pair(pair, "src")
    broadcast([value, source])
    return [of(value.ranges, source.scale)]


@operation("glu")
def glu(walk: Walk, pair: Pair) -> list[Value]:
    """Halves of one dimension, the first times the sigmoid of the second."""
    value = walk.pair(pair, "self")
    at = pair.get("dim") % len(value.ranges)
    n, m = count_of(value.ranges[at])
    walk.zero(value.scale)
    ranges = list(value.ranges)
    ranges[at] = split(ranges[at], [(2, 2), (n // 2, m // 2)])[1]
    return [copy_of(of(ranges, ONE), ranges)]
