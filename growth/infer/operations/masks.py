"""Comparisons of values, and what they hide."""

from __future__ import annotations

import math

from torch import Tensor

from growth.infer.errors import Unexplained
from growth.infer.operations.pointwise import broadcast, operand
from growth.infer.scales import ONE
from growth.infer.values import Pair, Value, of, operation
from growth.infer.walk import Walk

_COMPARED = (
    "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or",
    "bitwise_xor", "isin", "greater", "less",
)  # fmt: skip


@operation(*_COMPARED)
def compared(walk: Walk, pair: Pair) -> list[Value]:
    """Values that are compared scale alike."""
    names = [name for name in ("self", "other") if name in pair.one.arguments]
    values = [value for name in names if isinstance(value := operand(walk, pair, name), Value)]
    numbers = [pair[name] for name in names if not isinstance(pair[name][0], Tensor)]
    for one, other in numbers:
        if one != other:
            raise Unexplained(f"values are compared with a number that depends on the width ({one} and {other})")
        if one != 0:
            for value in values:
                walk.zero(value.scale)
    if len(values) == 2:
        walk.scales.equal(values[0].scale, values[1].scale)
    return [of(broadcast(values), ONE)]


@operation("masked_fill")
def masked_fill(walk: Walk, pair: Pair) -> list[Value]:
    """As `alike`, with one value under the mask."""
    value, mask = walk.pair(pair, "self"), walk.pair(pair, "mask")
    number = pair["value"][0]
    number = float(number) if not isinstance(number, Tensor) or number.numel() == 1 else 1.0
    if number != 0 and math.isfinite(number) and abs(number) < 1e30:
        walk.zero(value.scale)
    return [of(broadcast([value, mask]), value.scale)]
