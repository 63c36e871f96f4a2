"""What a budget can be spent on: training the small model on, starting with the large one, growing; and the loss that
each ends with, on every drawn pair of loss curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from growth.planner.head_start import grown_loss
from growth.planner.loss_curves import LossCurve, Numbers

SHARES = (0.1, 0.25, 0.5, 0.75)
"""After which share of the tokens to grow."""
DECAY, DECAY_SPREAD, DECAY_OWN = 0.012, 0.008, 0.005
"""What a decay of the learning rate at the end takes off the loss, beyond what it takes off all: so many times the
loss for each e-fold of the decay's tokens, its uncertainty, and how far models differ besides. Decays cost the same
share of the budget, so that the small model's is longer, and that of a grown model as long as the large one's.
Measured on byte-level models of width 24 and 48, where a decay over the last quarter took 0.07 to 0.13 nats off 1.7
(docs/advise.md)."""


@dataclass(frozen=True)
class Alternative:
    """One way to spend a budget.

    Args:
        kind: ``small`` (train it on), ``large`` (start with it) or ``grow``.
        model: the name of the large model; empty for ``small``.
        share: of the tokens of the run that are trained before the growth; of those that are left, where the small
            model is there already. None where nothing grows.
        small_tokens, large_tokens: that the small and the large model see, the small one's from its beginning.
        loss: in nats, on each drawn pair of curves.
        gap_closure, break_even: of a growth: (small - grown) / (small - large) at equal tokens, and what it must be
            for growth to end as low as starting large does at equal FLOPs; on each drawn pair, NaN where the large
            model is not the better one at those tokens.
    """

    kind: str
    model: str
    share: float | None
    small_tokens: float
    large_tokens: float
    loss: Numbers
    gap_closure: Numbers | None = None
    break_even: Numbers | None = None


@dataclass(frozen=True)
class Large:
    """A large model that is considered.

    Args:
        name: of it.
        curve: of its loss.
        carry: draws of what a growth to it carries over (`growth.planner.head_start`).
        cost: of a token, in tokens of the small model.
    """

    name: str
    curve: LossCurve
    carry: Numbers
    cost: float


def alternatives(
    small: LossCurve, larges: Sequence[Large], budget: float, free: float, random: np.random.Generator
) -> list[Alternative]:
    """All ways to spend a budget, training the small model on first.

    Args:
        small: the curve of the small model.
        larges: the models it could grow to.
        budget: in tokens of the small model.
        free: tokens that the small model has seen and that are not counted; 0 where they are.
        random: draws what a decay at the end takes off.
    """
    per_fold = DECAY + DECAY_SPREAD * random.standard_normal(len(small.floor))

    def decayed(loss: Numbers, cost: float, own: Numbers) -> Numbers:
        """What a run ends with after a decay in which a token costs that much, beside one of the first large model."""
        lower: Numbers = loss * (1 - per_fold * np.log(larges[0].cost / cost) - DECAY_OWN * own)
        return lower

    def own() -> Numbers:
        drawn: Numbers = random.standard_normal(len(small.floor))
        return drawn

    of_small = own()
    on = free + budget
    found = [Alternative("small", "", None, on, 0.0, decayed(small.at(on), 1.0, of_small))]
    for large in larges:
        of_large, of_grown = own(), own()
        alone = budget / large.cost
        scratch = large.curve.at(alone)
        found.append(Alternative("large", large.name, None, 0.0, alone, decayed(scratch, large.cost, of_large)))
        for share in (0.0, *SHARES) if free else SHARES:
            tokens = budget / (share + (1 - share) * large.cost)
            before, after = free + share * tokens, (1 - share) * tokens
            loss = grown_loss(small, large.curve, large.carry, before, after)
            below, above = large.curve.at(before + after), small.at(before + after)
            gap = np.where(above > below, above - below, np.nan)
            closed, even = (above - loss) / gap, 1 - (scratch - below) / gap
            ends = decayed(loss, large.cost, of_grown)
            found.append(Alternative("grow", large.name, share, before, after, ends, closed, even))
    return found
