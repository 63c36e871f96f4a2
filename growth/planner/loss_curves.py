"""Loss curves at a constant learning rate, from the points of a log: what they are, and how sure that is.

A curve is a power law in the tokens, ``loss = floor + excess * (tokens / last) ** -exponent`` (Hoffmann et al. 2022,
arXiv:2203.15556, equation 2, at one number of parameters). It is not one curve that is kept but many, drawn from the
posterior: whatever is worked out for each of them comes out with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from growth.errors import CheckpointError
from growth.planner.training_logs import TrainingLog

Numbers = NDArray[np.float64]

DRAWS = 4000
"""Curves that are drawn from a posterior."""
BINS = 60
"""Averages that the points of a long log are taken together to."""
EXPONENT, EXPONENT_SPREAD = 0.5, 0.5
"""Median of the exponent before any point is seen, and the standard deviation of its logarithm: 95 % between 0.19 and
1.33. Hoffmann et al. fit 0.28 to runs that were trained to the end; a single run falls faster at its beginning."""
FLOOR = 4.0
"""The density of the floor before any point is seen rises with this power of it, from 0 to the last loss: 95 % above
0.55 of it. By the fit of Hoffmann et al. it is 0.71 of it for 1e8 weights and 0.86 for 7e9, at 20 tokens for each
weight."""
DRIFT, WANDERING = 0.06, 0.5
"""How far curves leave a power law beyond the last point, in each e-fold of tokens: the standard deviation as a share
of the excess over the floor there; and the share of its variance that two models on the same text do not have in
common. Chosen on ten curves of byte-level models of width 24 to 72, continued to two to ten times the tokens of the
fitted part (docs/advise.md)."""
HUBER = 2.0
"""Standard deviations beyond which a point counts less."""
_LEAST_FREEDOM = 3.0
_EXPONENTS, _CELLS, _ZOOMS = (0.05, 2.0), 96, 3
_NEGLIGIBLE = 12.0
"""Below the highest logarithm of the posterior by this much, a cell of the grid is left out of the next, finer one."""


@dataclass(frozen=True)
class LossCurve:
    """The posterior of a loss curve.

    Args:
        last: tokens of the last point.
        floor, excess, exponent: of each drawn curve; the loss in nats.
        noise: standard deviation of a point (of an average of points in a long log) about the curve, in nats.
        points: how many points were fitted, as averages in a long log.
        drift: how far each drawn curve leaves its power law in each e-fold of tokens beyond the last point, in nats.
    """

    last: float
    floor: Numbers
    excess: Numbers
    exponent: Numbers
    noise: float
    points: int
    drift: Numbers

    def at(self, tokens: float | Numbers) -> Numbers:
        """The loss after so many tokens on each drawn curve, in nats.

        Example:
            >>> curve.at(2e8).shape
            (4000,)
        """
        share = np.maximum(np.asarray(tokens, dtype=np.float64), 1.0) / self.last
        power: Numbers = self.floor + self.excess * share**-self.exponent
        return np.maximum(power + self.drift * np.log(np.maximum(share, 1.0)), 0.0)

    def tokens_to(self, loss: Numbers) -> Numbers:
        """The tokens after which each drawn curve, without its drift, has come down to a loss; infinity where it never
        does."""
        above = np.maximum(np.asarray(loss) - self.floor, 0.0)
        with np.errstate(divide="ignore", over="ignore"):
            found: Numbers = self.last * (above / self.excess) ** (-1 / self.exponent)
        return found

    def chosen(self, which: NDArray[np.intp]) -> LossCurve:
        """The same of some of the drawn curves, in that order."""
        parts = (self.floor[which], self.excess[which], self.exponent[which])
        return LossCurve(self.last, *parts, self.noise, self.points, self.drift[which])

    def typical(self, tokens: float) -> LossCurve:
        """As if it were known: the drawn curve whose loss after so many tokens is the median, in place of all."""
        middle = np.argsort(self.at(tokens))[len(self.floor) // 2]
        return self.chosen(np.full(len(self.floor), middle, dtype=np.intp))


def averaged(tokens: Numbers, loss: Numbers, bins: int = BINS) -> tuple[Numbers, Numbers]:
    """Averages of neighbouring points where there are more than ``bins``.

    Example:
        >>> averaged(np.arange(1.0, 5.0), np.array([4.0, 2.0, 1.0, 1.0]), bins=2)
        (array([1.5, 3.5]), array([3., 1.]))
    """
    if len(tokens) <= bins:
        return tokens, loss
    parts = np.array_split(np.arange(len(tokens)), bins)
    return np.array([tokens[part].mean() for part in parts]), np.array([loss[part].mean() for part in parts])


def fit(log: TrainingLog, seed: int = 0) -> LossCurve:
    """The posterior of the curve of a log.

    Priors: the logarithm of the exponent is normal (`EXPONENT`, `EXPONENT_SPREAD`); the floor lies between 0 and the
    last loss (`FLOOR`); the excess is flat above 0; the noise is scale-free. The posterior is computed on a grid of
    exponent and floor, with excess and noise integrated out, on averages of the points. Points far off the best curve
    count less (Huber's weights), and where neighbouring residuals go together, there are fewer independent ones: the
    number is multiplied by (1 - r) / (1 + r), r the correlation of neighbours.

    Args:
        log: of one model.
        seed: of the draws.

    Returns:
        `DRAWS` curves.

    Raises:
        CheckpointError: for a loss that does not fall.
    """
    random = np.random.default_rng(seed)
    tokens, loss = averaged(log.tokens, log.loss)
    if np.polyfit(np.log(tokens), loss, 1)[0] >= 0:
        raise CheckpointError(f"the loss of {log.name} does not fall. Check the run, or log more of it.")
    last, level = float(log.tokens[-1]), float(np.median(loss[-max(3, len(loss) // 10) :]))
    grid = _Grid(np.geomspace(*_EXPONENTS, _CELLS), level * (np.arange(_CELLS) + 0.5) / _CELLS)
    weights, independent = _trust(grid, tokens / last, loss, level)
    freedom = max(_LEAST_FREEDOM, independent - 3)
    for _ in range(_ZOOMS):
        squares, slopes, inner = grid.squares(tokens / last, loss, weights)
        squares = np.maximum(squares, (1e-9 * level) ** 2)
        prior = -0.5 * (np.log(grid.exponents / EXPONENT) / EXPONENT_SPREAD) ** 2 - 0.5 * np.log(inner)
        logs = -0.5 * freedom * np.log(squares) + prior[:, None] + FLOOR * np.log(grid.floors)
        logs = np.where(slopes > 0, logs, -np.inf)
        used, grid = grid, grid.around(logs > logs.max() - _NEGLIGIBLE)
    chances = np.exp(logs - logs.max()).ravel()
    cells = random.choice(chances.size, size=DRAWS, p=chances / chances.sum())
    rows, columns = np.unravel_index(cells, logs.shape)
    noise = np.sqrt(squares.ravel()[cells] / random.chisquare(freedom, DRAWS))
    spread = noise * np.sqrt(len(loss) / max(independent, _LEAST_FREEDOM) / inner[rows])
    excess = np.maximum(slopes.ravel()[cells] + spread * random.standard_normal(DRAWS), 1e-6 * level)
    drift = DRIFT * excess * random.standard_normal(DRAWS)
    about = float(np.sqrt(squares.min() / max(len(loss) - 3, 1)))
    return LossCurve(last, used.floors[columns], excess, used.exponents[rows], about, len(loss), drift)


@dataclass(frozen=True)
class _Grid:
    """Exponents and floors, in nats, to compute a posterior at."""

    exponents: Numbers
    floors: Numbers

    def squares(self, shares: Numbers, loss: Numbers, weights: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """For each exponent and floor: the sum of squares about the best curve, and its excess; for each exponent the
        sum of squares of the powers.

        Args:
            shares: tokens of the points over those of the last.
            loss: of the points.
            weights: how much each counts.
        """
        powers = shares[None, :] ** -self.exponents[:, None]
        inner = (weights * powers**2).sum(1)
        above = loss[None, :] - self.floors[:, None]
        slopes = (powers * weights) @ above.T / inner[:, None]
        return (weights * above**2).sum(1)[None, :] - slopes**2 * inner[:, None], slopes, inner

    def around(self, kept: NDArray[np.bool_]) -> _Grid:
        """A grid as fine over the part of this one that holds what is kept."""
        (top, bottom), (left, right) = (
            (max(hit[0] - 1, 0), min(hit[-1] + 1, _CELLS - 1))
            for hit in (np.flatnonzero(kept.any(axis)) for axis in (1, 0))
        )
        return _Grid(
            np.geomspace(self.exponents[top], self.exponents[bottom], _CELLS),
            np.linspace(self.floors[left], self.floors[right], _CELLS),
        )


def _trust(grid: _Grid, shares: Numbers, loss: Numbers, level: float) -> tuple[Numbers, float]:
    """How much each point counts, and how many independent ones there are."""
    weights = np.ones_like(loss)
    for _ in range(4):
        squares, slopes, _inner = grid.squares(shares, loss, weights)
        i, j = np.unravel_index(np.argmin(squares), squares.shape)
        residuals = loss - grid.floors[j] - slopes[i, j] * shares ** -grid.exponents[i]
        scale = max(1.4826 * float(np.median(np.abs(residuals))), 1e-9 * level)
        weights = np.minimum(1.0, HUBER * scale / np.maximum(np.abs(residuals), 1e-300))
    return weights, _independent(residuals)


def _independent(residuals: Numbers) -> float:
    """How many independent residuals there are as good as these."""
    centred = residuals - residuals.mean()
    total = float(centred @ centred)
    neighbours = float(centred[1:] @ centred[:-1]) / total if total > 0 else 0.0
    correlation = min(max(neighbours, 0.0), 0.9)
    return len(residuals) * (1 - correlation) / (1 + correlation)
