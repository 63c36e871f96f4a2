"""A trial growth: what the log of a grown model says of what growth carries over."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from growth.errors import CheckpointError
from growth.planner.alternatives import Large
from growth.planner.head_start import draw_carry, grown_loss
from growth.planner.loss_curves import DRAWS, LossCurve, Numbers, averaged
from growth.planner.training_logs import TrainingLog

FEWEST = 3
"""Points after the growth that a trial needs."""
MISFIT = 0.003
"""Standard deviation of what the form of the curves misses, as a share of the loss."""
OTHERWISE = 0.1
"""Standard deviation of how much the carry of another time of growth differs from that of the trial."""
OPEN = 0.5
"""Standard deviation of the carry before a trial, which is to decide itself and not what was known before."""


def open_carry(axis: str, random: np.random.Generator) -> Numbers:
    """Draws of the carry before a trial: half of them of what is known, as for a run of unknown length, half of them
    wide; between -1 and 1.

    Args:
        axis: what grows.
        random: draws them.
    """
    wide = np.clip(OPEN * random.standard_normal(DRAWS), -1.0, 1.0)
    result: Numbers = np.where(random.random(DRAWS) < 0.5, wide, draw_carry(axis, None, DRAWS, random))
    return result


def likely(
    small: LossCurve, large: Large, log: TrainingLog, grown_at: float, random: np.random.Generator
) -> NDArray[np.intp]:
    """Which draws go with a trial: as many numbers of draws, the likelier ones more often.

    The later half of its points is compared, as an average, with what each draw says; a difference is taken to be
    normal, of the noise of the points and of `MISFIT`.

    Args:
        small: the curve of the small model.
        large: the model that it grew to, with draws of the carry.
        log: of the grown model; its tokens count from the small model's start.
        grown_at: tokens of the small model at the growth.
        random: draws the numbers.

    Raises:
        CheckpointError: for fewer than `FEWEST` points after the growth.
    """
    after = log.tokens > grown_at
    if after.sum() < FEWEST:
        raise CheckpointError(
            f"{log.name} has {int(after.sum())} points at a constant learning rate after {grown_at:.3g} tokens, where "
            f"the model grew, and {FEWEST} are needed. Its tokens are to count from the small model's start."
        )
    tokens, loss = averaged(log.tokens[after], log.loss[after])
    tokens, loss = tokens[len(tokens) // 2 :], loss[len(loss) // 2 :]
    expected = np.stack([grown_loss(small, large.curve, large.carry, grown_at, at - grown_at) for at in tokens])
    behind = (loss[:, None] - expected).mean(0)
    spread = np.hypot(MISFIT * float(loss.mean()), max(small.noise, large.curve.noise) / np.sqrt(len(loss)))
    logs = -0.5 * (behind / spread) ** 2
    chances = np.exp(logs - logs.max())
    return random.choice(DRAWS, size=DRAWS, p=chances / chances.sum())


def tried(
    small: LossCurve, large: Large, log: TrainingLog, grown_at: float, random: np.random.Generator
) -> tuple[LossCurve, Large]:
    """The small and the large model as a trial leaves them: the draws that go with it (`likely`), and a carry that may
    differ by `OTHERWISE` at other times of growth."""
    which = likely(small, large, log, grown_at, random)
    carry = np.clip(large.carry[which] + OTHERWISE * random.standard_normal(DRAWS), -1.0, 1.0)
    return small.chosen(which), Large(large.name, large.curve.chosen(which), carry, large.cost)
