"""The values near a wanted size, and what each costs.

The cost is ``weight * |log(value / wanted)|``: twice and half as large are equally far. Features
weigh more than heads, since they are what a ratio is about."""

from __future__ import annotations

import math

from growth.architectures.sizes import Size
from growth.plan.size_search import PricedSize, SizeOptions, by_cost

FEATURES, HEADS = 4.0, 1.0
"""Weights of the distance, for sizes that grow with the width (hidden_size, intermediate_size) and
for numbers of heads and head_dim."""

STEPS = 24
"""How many values are tried on either side of the wanted one."""

LARGEST_STEP = 64
"""Of features: matrix kernels are fast at multiples of 64."""

FARTHEST = 0.15
"""How far a number of features may be from the wanted one, as |log(value / wanted)|, where it was not
named: beyond, the request is refused rather than met so badly."""


def near(old: int, wanted: float, size: Size, derived: tuple[PricedSize, ...] = ()) -> SizeOptions:
    """The values around the wanted one in steps of `step`, the whole multiples of the old one, and
    the wanted one itself where it is a whole number.

    Args:
        old: the size before growth; smaller values are left out.
        wanted: the size aimed at.
        size: what it is, for step and weight.
        derived: what else is allowed, with its cost: to derive it from other sizes.

    Example:
        Six heads times 1.25:

        >>> [priced.value for priced in near(6, 7.5, Size(grows="heads")).values][:4]
        [8, 7, 9, 6]
    """
    by = step(old, size)
    centre = round(wanted / by) * by
    values = {centre + i * by for i in range(-STEPS, STEPS + 1)}
    values |= {multiple * old for multiple in range(1, math.ceil(wanted / old) + 2)}
    whole = round(wanted)
    if is_met(whole, wanted) and (old % 2 or whole % 2 == 0):
        values.add(whole)
    weight = FEATURES if size.grows == "width" else HEADS
    priced = [
        PricedSize(0.0 if is_met(value, wanted) else weight * abs(math.log(value / wanted)), value)
        for value in values
        if value >= old
    ]
    why = "kept" if wanted == old else f"x{wanted / old:.4g}"
    return SizeOptions(tuple(sorted([*priced, *derived], key=by_cost)), why, wanted)


def step(old: int, size: Size) -> int:
    """The step between values that are tried: 1 for heads, 2 for an even head_dim, and for features
    the largest power of two that divides the old number, up to 64 and an eighth of it.

    Example:
        >>> step(576, Size()), step(96, Size()), step(97, Size())
        (64, 8, 1)
    """
    if size.grows == "width":
        dividing, eighth = old & -old, 1 << max(old // 8, 1).bit_length() - 1
        return min(dividing, LARGEST_STEP, eighth)
    return 2 - old % 2 if size.grows == "head-dim" else 1


def is_met(value: float, wanted: float) -> bool:
    """Whether a value is the wanted one, but for the rounding of a ratio such as 5/3."""
    return abs(value - wanted) < 0.01


def within_reach(options: SizeOptions) -> SizeOptions:
    """Without the values farther than `FARTHEST` from the wanted one; the cheapest stays."""
    wanted = options.wanted
    if wanted is None:
        return options
    close = tuple(
        priced for priced in options.values if priced.value is None or abs(math.log(priced.value / wanted)) <= FARTHEST
    )
    return SizeOptions(close or options.values[:1], options.why, wanted)


def around(old: int, named: int, size: Size) -> SizeOptions:
    """A named size and the values around it, for the shape that a refusal suggests; larger than
    before, if the named one is."""
    nearby = near(old, named, size)
    values = {priced for priced in nearby.values if priced.value != old or named == old} | {PricedSize(0.0, named)}
    return SizeOptions(tuple(sorted(values, key=by_cost)), nearby.why, nearby.wanted)
