"""Differences of losses with their 95 % intervals, for `payoff.py`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from statistics import fmean, stdev, variance

Losses = Mapping[int, float]
"""Seed -> loss."""


@dataclass(frozen=True)
class Difference:
    """Of two arms: mean, half the width of its 95 % interval, and for pairs in how many of them the first is lower."""

    mean: float
    half: float
    count: int
    lower: int | None = None

    @property
    def resolved(self) -> bool:
        """Whether the interval excludes 0."""
        return abs(self.mean) > self.half

    @property
    def interval(self) -> tuple[float, float]:
        return self.mean - self.half, self.mean + self.half


@cache
def student(freedom: float, level: float = 0.95) -> float:
    """The t that a variable of Student's distribution exceeds in neither direction with probability ``level``; freedom
    need not be whole.

    >>> round(student(7), 3)
    2.365
    """
    low, high = 0.0, 1.0
    while _inside(high, freedom) < level:
        high *= 2
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, freedom) < level else (low, middle)
    return high


def _inside(t: float, freedom: float, parts: int = 2000) -> float:
    """The probability of [-t, t]. With t = sqrt(freedom) tan(a) the density is a power of cos(a), which Simpson's rule
    adds up."""
    factor = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    end = math.atan(t / math.sqrt(freedom))
    heights = [math.cos(end * part / parts) ** (freedom - 1) for part in range(parts + 1)]
    return (
        2 * factor * end / parts / 3 * (heights[0] + heights[-1] + 4 * sum(heights[1::2]) + 2 * sum(heights[2:-1:2]))
    )


def paired(first: Losses, second: Losses) -> Difference | None:
    """First minus second over the seeds of both; none for fewer than two."""
    values = [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]
    if len(values) < 2:
        return None
    half = student(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Difference(fmean(values), half, len(values), sum(value < 0 for value in values))


def welch(first: Losses, second: Losses) -> Difference | None:
    """First minus second, as independent samples of unequal variance; none where one has fewer than two."""
    if min(len(first), len(second)) < 2:
        return None
    of_first, of_second = (variance(arm.values()) / len(arm) for arm in (first, second))
    both = of_first + of_second
    if both == 0:
        return Difference(fmean(first.values()) - fmean(second.values()), 0.0, len(first))
    freedom = both**2 / (of_first**2 / (len(first) - 1) + of_second**2 / (len(second) - 1))
    return Difference(fmean(first.values()) - fmean(second.values()), student(freedom) * math.sqrt(both), len(first))


@dataclass(frozen=True)
class Closure:
    """Gap closure at equal tokens, (small - grown) / (small - scratch); its break-even, above which growth wins at
    equal FLOPs, 1 - (scratch at equal FLOPs - scratch) / (small - scratch); and closure minus break-even with half
    its 95 % interval."""

    value: float
    break_even: float
    margin: Difference


def closure(small: Losses, grown: Losses, scratch: Losses, equal_flops: Losses) -> Closure | None:
    """``small`` and ``scratch`` have as many tokens as ``grown``; ``equal_flops`` is from scratch with as many FLOPs.
    Seeds are left out one at a time (jackknife) for the interval. None for fewer than three seeds of all."""
    seeds = sorted(small.keys() & grown.keys() & scratch.keys() & equal_flops.keys())
    if len(seeds) < 3:
        return None

    def of(chosen: Sequence[int]) -> tuple[float, float]:
        low, mine, high, start = (fmean(arm[seed] for seed in chosen) for arm in (small, grown, scratch, equal_flops))
        return (low - mine) / (low - high), 1 - (start - high) / (low - high)

    value, break_even = of(seeds)
    margins = [_margin(of, [seed for seed in seeds if seed != out]) for out in seeds]
    return Closure(value, break_even, jackknife(value - break_even, margins))


def _margin(of: Callable[[Sequence[int]], tuple[float, float]], seeds: Sequence[int]) -> float:
    value, break_even = of(seeds)
    return value - break_even


def jackknife(value: float, without: Sequence[float]) -> Difference:
    """A figure of many seeds, and its interval from what it is with each of them, or group of them, left out."""
    count, mean = len(without), fmean(without)
    error = math.sqrt((count - 1) / count * sum((one - mean) ** 2 for one in without))
    return Difference(value, student(count - 1) * error, count)


def interpolated(points: Sequence[tuple[float, float]], loss: float) -> float | None:
    """The FLOPs at which losses that fall, given as (FLOPs, loss), reach ``loss``: linear in the logarithm of FLOPs
    between two points; none outside."""
    ordered = sorted(points)
    for (before, high), (after, low) in pairwise(ordered):
        if low <= loss <= high and low < high:
            return before * (after / before) ** ((high - loss) / (high - low))
    return None
