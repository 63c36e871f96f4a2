"""What to do, and how sure that is: from the losses that the alternatives end with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from growth.planner.alternatives import Alternative
from growth.planner.loss_curves import Numbers

PRACTICAL = 0.005
"""Nats below which a difference is none in practice."""


@dataclass(frozen=True)
class Interval:
    """A median and the 95 % interval around it.

    Example:
        >>> str(Interval(1.5, 1.25, 1.75))
        '1.5000 (1.2500 to 1.7500)'
    """

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, drawn: Numbers) -> Interval:
        """That of draws."""
        low, middle, high = np.quantile(drawn, (0.025, 0.5, 0.975))
        return cls(float(middle), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.middle:.4f} ({self.low:.4f} to {self.high:.4f})"


@dataclass(frozen=True)
class Rival:
    """Another way beside the best one.

    Args:
        alternative: the other way.
        behind: how much higher it ends than the best, in nats.
        verdict: ``worse``, ``alike`` (within `PRACTICAL` for sure) or ``unknown``.
    """

    alternative: Alternative
    behind: Interval
    verdict: str


def compared(alternatives: Sequence[Alternative]) -> tuple[Alternative, list[Rival]]:
    """The alternative with the lowest expected loss, and the best of each other kind and model beside it.

    Of several growths to one model the one with the lowest expected loss stands for all.
    """
    groups: dict[tuple[str, str], Alternative] = {}
    for one in alternatives:
        group = (one.kind, one.model)
        if group not in groups or one.loss.mean() < groups[group].loss.mean():
            groups[group] = one
    best = min(groups.values(), key=lambda one: float(one.loss.mean()))
    rivals = []
    for one in groups.values():
        if one is not best:
            behind = Interval.of(one.loss - best.loss)
            alike = behind.low > -PRACTICAL and behind.high < PRACTICAL
            rivals.append(Rival(one, behind, "worse" if is_worse(behind) else "alike" if alike else "unknown"))
    return best, rivals


def is_worse(behind: Interval) -> bool:
    """Whether a way ends higher than another for sure, and by enough to matter.

    Example:
        >>> is_worse(Interval(0.02, 0.01, 0.03)), is_worse(Interval(0.02, -0.01, 0.05))
        (True, False)
    """
    return behind.low > 0 and behind.middle >= PRACTICAL


def chances(alternatives: Sequence[Alternative]) -> list[float]:
    """For each alternative, the probability that none ends lower."""
    lowest = np.argmin(np.stack([one.loss for one in alternatives]), axis=0)
    return [float((lowest == number).mean()) for number in range(len(alternatives))]


def over_references(alternative: Alternative, references: Sequence[Alternative]) -> Interval:
    """How much lower an alternative ends than the better of those that do not grow, the one with the lower expected
    loss."""
    better = min(references, key=lambda one: float(one.loss.mean()))
    return Interval.of(better.loss - alternative.loss)


def most_telling(spread: Callable[[str], float], sources: Sequence[str]) -> str:
    """Which source of uncertainty, if it were known, would leave the least.

    Args:
        spread: source -> the standard deviation of the difference that decides, with that source known.
        sources: the names.

    Example:
        >>> most_telling({"small": 0.02, "large": 0.01}.get, ["small", "large"])
        'large'
    """
    return min(sources, key=spread)
