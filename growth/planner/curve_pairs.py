"""Loss curves of several models on the same text, drawn together: what is known of one says something of the
others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from growth.planner.loss_curves import DRAWS, DRIFT, WANDERING, LossCurve, Numbers

ALIKE = 0.25
"""Standard deviation of the logarithm of the ratio of two models' exponents. Hoffmann et al. 2022 (arXiv:2203.15556)
have one exponent of the tokens for models of all sizes."""
SIZE_EXPONENT, SIZE_SPREAD = 0.34, 0.08
"""How the reducible part of the floor falls with the number of weights: the exponent of Hoffmann et al. 2022, equation
10, and a standard deviation, since other fits of the same data differ by as much."""
REDUCIBLE = (0.05, 0.5)
"""The part of a small model's floor that more weights would take away: from Hoffmann et al., 17 % at 1e9 weights and
31 % at 1e8."""
_TRIES = 10


def drawn_together(curves: Sequence[LossCurve], random: np.random.Generator) -> list[LossCurve]:
    """Curves drawn from their joint posterior, the first being the smallest model's.

    Combinations are drawn at random and kept by how likely it is that models on the same text have such curves: nearly
    the same exponent (`ALIKE`), and no larger model a higher floor than the smallest. How the curves leave their power
    laws beyond the logs is for the most part common to them.

    Args:
        curves: of each model alone.
        random: draws the combinations.
    """
    if len(curves) == 1:
        return list(curves)
    orders = [np.concatenate([random.permutation(DRAWS) for _ in range(_TRIES)]) for _ in curves]
    many = [curve.chosen(order) for curve, order in zip(curves, orders, strict=True)]
    first, logs = many[0], np.zeros(DRAWS * _TRIES)
    for other in many[1:]:
        logs -= 0.5 * (np.log(other.exponent / first.exponent) / ALIKE) ** 2
        above = np.maximum(other.floor - first.floor, 0.0) / (0.02 * first.floor)
        logs -= 0.5 * above**2
    chances = np.exp(logs - logs.max())
    kept = random.choice(chances.size, size=DRAWS, p=chances / chances.sum())
    return with_common_drift([curve.chosen(kept) for curve in many], random)


def with_common_drift(curves: Sequence[LossCurve], random: np.random.Generator) -> list[LossCurve]:
    """Curves that leave their power laws alike, but for a share of `WANDERING` of the variance."""
    common = random.standard_normal(DRAWS)
    own = [random.standard_normal(DRAWS) for _ in curves]
    drifts = [np.sqrt(1 - WANDERING) * common + np.sqrt(WANDERING) * one for one in own]
    return [replace(curve, drift=DRIFT * curve.excess * drift) for curve, drift in zip(curves, drifts, strict=True)]


def guessed(small: LossCurve, ratio: float, random: np.random.Generator) -> LossCurve:
    """The curve of a large model of which there is no log, from that of the small one and a scaling law: a wide guess.

    The floor falls by the part of it that more weights take away (`REDUCIBLE`, `SIZE_EXPONENT`), the excess is the
    small model's times a factor whose logarithm has a standard deviation of 0.25, and the exponent one of 0.1.

    Args:
        small: the curve of the small model.
        ratio: the cost of a token of the large model over that of the small one, for the ratio of their weights.
        random: draws the guesses.
    """

    def normal(spread: float) -> Numbers:
        return spread * random.standard_normal(DRAWS)

    reducible = random.uniform(*REDUCIBLE, DRAWS)
    falls = 1 - ratio ** -np.maximum(SIZE_EXPONENT + normal(SIZE_SPREAD), 0.05)
    return replace(
        small,
        floor=small.floor * (1 - reducible * falls),
        excess=small.excess * np.exp(normal(0.25)),
        exponent=small.exponent * np.exp(normal(0.1)),
        points=0,
    )
