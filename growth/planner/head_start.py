"""What a grown model is worth beside one that starts large: what was measured, and what follows for another run.

At the moment of growth the model has the small one's loss. The large model, trained from scratch, has the same loss
after fewer tokens, its *equal-loss tokens*. The grown model is taken to go on as a large one that has seen those and
some more:

    head start = equal-loss tokens + carry * (tokens of the small phase - equal-loss tokens)

With a carry of 0 the small phase is worth what its loss says; with 1, every token of it is worth a token of the large
model. The gap closure at equal tokens follows from the head start and the two loss curves; it is not assumed.

The carry takes time to show: right after growth the loss is the small model's. Of Expert Upcycling's gap closure, 35 %
is there after a tenth of the small phase's tokens and 98 % after as many (arXiv:2604.19835), and
``1 - exp(-4.3 * tokens since growth / tokens of the small phase)`` goes through these two.

What is known of the carry (docs/advise.md has the table; measured runs: docs/payoff.md):

* width x2, 24 -> 48 and 32 -> 64, at 50 % of the steps: 0 to -0.3 (gap closure 0.49 to 0.64), since a model is set
  back for a while when it grows, which weighs most where it grows early;
* depth x2, exact layers: 0.3 to 0.7 where they are spread; 1 and more where they are stacked, which is the default;
  width and depth together, stacked: about 0.2;
* published, with ten to a hundred times as many tokens for each weight: gap closure 0.90 (SPARKLING, width x2) and
  0.81 to 1.0 (Expert Upcycling, experts x2), which is a carry of 0.7 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from growth.planner.loss_curves import LossCurve, Numbers

MIXING = 4.3
SHORT, LONG = 50.0, 400.0
"""Tokens for each weight of the large model: up to `SHORT` this library's own runs speak, from `LONG` on the
published."""


@dataclass(frozen=True)
class Carry:
    """What is known of the carry before a growth is tried.

    Args:
        own, own_spread: mean and standard deviation that the measured runs on small models leave.
        published, published_spread: the same of published runs.
        source: which runs these are, for the reader.
    """

    own: float
    own_spread: float
    published: float
    published_spread: float
    source: str


KNOWN = {
    "width": Carry(
        -0.1, 0.35, 0.6, 0.25, "width x2: gap closure 0.49 to 0.64 at 50 %; SPARKLING 0.90 (arXiv:2602.02472)"
    ),
    "depth": Carry(0.9, 0.4, 0.9, 0.4, "depth x2, stacked, measured here; no gap closure is published"),
    "both": Carry(0.2, 0.35, 0.5, 0.3, "width and depth x2 at 50 %, measured here; no gap closure is published"),
    "experts": Carry(0.3, 0.4, 0.85, 0.2, "experts x2: gap closure 0.81 to 1.0 (Expert Upcycling, arXiv:2604.19835)"),
    "unknown": Carry(0.1, 0.3, 0.6, 0.3, "width, depth and experts together, since it is not said what grows"),
}
"""What grows -> what is known."""


def published_share(tokens_per_weight: float | None) -> float:
    """How far the published runs, which are long, speak for a run of a given length: a judgement. 5 % up to `SHORT`
    tokens for each weight of the large model, 70 % from `LONG` on; 30 % where the length is not known.

    Example:
        >>> published_share(20.0), published_share(1000.0), published_share(None)
        (0.05, 0.7, 0.3)
    """
    if tokens_per_weight is None:
        return 0.3
    along = np.log(max(tokens_per_weight, SHORT) / SHORT) / np.log(LONG / SHORT)
    return float(0.05 + 0.65 * min(1.0, along))


def draw_carry(axis: str, tokens_per_weight: float | None, draws: int, random: np.random.Generator) -> Numbers:
    """Draws of the carry: of the runs measured here or of the published ones, by `published_share`; between -1 and
    1."""
    known = KNOWN[axis]
    own = random.normal(known.own, known.own_spread, draws)
    published = random.normal(known.published, known.published_spread, draws)
    drawn = np.where(random.random(draws) < published_share(tokens_per_weight), published, own)
    result: Numbers = np.clip(drawn, -1.0, 1.0)
    return result


def grown_loss(small: LossCurve, large: LossCurve, carry: Numbers, before: float, after: float) -> Numbers:
    """The loss of a grown model, in nats, on each drawn pair of curves.

    Args:
        small, large: curves of the two models.
        carry: as many draws.
        before: tokens of the small phase.
        after: tokens since the growth.

    Example:
        >>> grown_loss(small, large, carry, before=1e8, after=1e8).mean()
        3.21
    """
    if before <= 0:
        return large.at(after)
    equal = np.minimum(large.tokens_to(small.at(before)), before)
    shown = 1 - np.exp(-MIXING * after / before)
    start = np.maximum(equal + np.where(carry > 0, carry * shown, carry) * (before - equal), 0.0)
    return large.at(start + after)
