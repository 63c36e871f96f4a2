"""Loss curves fitted to made-up logs whose curves are known: how often the intervals hold them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from growth.planner import curve_pairs, loss_curves
from growth.planner.curve_pairs import drawn_together, guessed
from growth.planner.loss_curves import DRAWS, LossCurve, averaged, fit
from growth.planner.training_logs import TrainingLog

DRAWN = 200


def log(floor: float, excess: float, exponent: float, noise: float, random: np.random.Generator) -> TrainingLog:
    """25 points between 2e7 and 1e8 tokens."""
    tokens = np.linspace(2e7, 1e8, 25)
    exact = floor + excess * (tokens / 1e8) ** -exponent
    return TrainingLog("made up", tokens, exact + noise * random.standard_normal(len(tokens)))


def calibration(fitted: Callable[[TrainingLog], LossCurve]) -> tuple[float, float]:
    """How often the 95 % interval holds the loss at 1 and at 4 times the tokens, over curves drawn from the prior."""
    random, held = np.random.default_rng(5), np.zeros(2)
    for _ in range(DRAWN):
        share, exponent = random.random() ** 0.2, 0.5 * np.exp(0.5 * random.standard_normal())
        level = 2.0 / max(share, 0.3)
        floor, excess = 2.0, max(level - 2.0, 0.02)
        curve = fitted(log(floor, excess, exponent, 0.01, random))
        for number, times in enumerate((1.0, 4.0)):
            low, high = np.quantile(curve.at(times * 1e8), (0.025, 0.975))
            held[number] += low <= floor + excess * times**-exponent <= high
    return tuple(held / DRAWN)


def test_intervals_hold_the_truth_as_often_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the drift, which these curves do not have: 95 % of 200 is 184 to 196, two standard deviations wide."""
    monkeypatch.setattr(loss_curves, "DRIFT", 0.0)
    now, later = calibration(fit)
    assert 0.91 <= now <= 0.99 and 0.91 <= later <= 0.99


def test_too_sure_a_fit_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes the best curve for the only one, and one that takes points for ten times as many."""
    monkeypatch.setattr(loss_curves, "DRIFT", 0.0)
    assert min(calibration(lambda one: fit(one).typical(4e8))) < 0.5
    independent = loss_curves._independent
    monkeypatch.setattr(loss_curves, "_independent", lambda residuals: 10 * independent(residuals))
    assert min(calibration(fit)) < 0.9


def test_drift_widens_what_lies_beyond_the_log_alone() -> None:
    curve = fit(log(2.0, 0.5, 0.5, 0.01, np.random.default_rng(1)))
    still = LossCurve(**{**vars(curve), "drift": 0 * curve.drift})
    assert np.array_equal(curve.at(5e7), still.at(5e7))
    assert curve.at(1e9).std() > 1.05 * still.at(1e9).std()


def test_outliers_count_less(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = log(2.0, 0.5, 0.5, 0.005, np.random.default_rng(2))
    loss = clean.loss.copy()
    loss[[7, 15]] += 1.0
    spiked = TrainingLog("made up", clean.tokens, loss)
    truth = 2.0 + 0.5 * 4**-0.5
    assert abs(np.median(fit(spiked).at(4e8)) - truth) < 0.1
    monkeypatch.setattr(loss_curves, "HUBER", 1e9)
    assert fit(spiked).noise > 5 * fit(clean).noise


def test_points_that_move_together_are_fewer() -> None:
    random = np.random.default_rng(3)
    white = 0.01 * random.standard_normal(60)
    slow = np.zeros(60)
    for number in range(1, 60):
        slow[number] = 0.9 * slow[number - 1] + white[number]
    tokens = np.linspace(2e7, 1e8, 60)
    exact = 2.0 + 0.5 * (tokens / 1e8) ** -0.5
    wide, narrow = (fit(TrainingLog("", tokens, exact + noise)).at(4e8).std() for noise in (slow, white))
    assert wide > 1.5 * narrow


def test_long_logs_are_averaged_and_fits_are_the_same_each_time() -> None:
    tokens = np.linspace(1e6, 1e8, 5000)
    loss = 2.0 + 0.5 * (tokens / 1e8) ** -0.5 + 0.05 * np.random.default_rng(4).standard_normal(5000)
    curve = fit(TrainingLog("", tokens, loss))
    assert curve.points == 60 and len(averaged(tokens, loss)[0]) == 60
    assert abs(np.median(curve.at(4e8)) - 2.25) < 0.05
    assert np.array_equal(curve.at(4e8), fit(TrainingLog("", tokens, loss)).at(4e8))
    exact = fit(TrainingLog("", tokens, 2.0 + 0.5 * (tokens / 1e8) ** -0.5))
    assert np.isfinite(exact.at(4e8)).all()


def test_tokens_to_a_loss_are_the_inverse() -> None:
    curve = fit(log(2.0, 0.5, 0.5, 0.01, np.random.default_rng(6)))
    assert np.allclose(curve.tokens_to(curve.at(7e7)), 7e7)
    assert np.isinf(curve.tokens_to(np.zeros(DRAWS))).all()


def test_two_models_on_a_text_tell_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long log of one narrows a short one of the other, and their difference most."""
    random = np.random.default_rng(7)
    long = fit(log(2.0, 0.5, 0.5, 0.002, random))
    short = fit(log(1.9, 0.7, 0.5, 0.02, random), seed=1)
    one, other = drawn_together([long, short], np.random.default_rng(0))
    alone = (long.at(1e9) - short.at(1e9)).std()
    assert (one.at(1e9) - other.at(1e9)).std() < 0.8 * alone
    assert (other.floor <= one.floor * 1.1).mean() > 0.99
    monkeypatch.setattr(curve_pairs, "ALIKE", 1e9)
    free = drawn_together([long, short], np.random.default_rng(0))[1]
    assert np.log(free.exponent / one.exponent).std() > np.log(other.exponent / one.exponent).std()


def test_a_model_without_a_log_is_a_wide_guess() -> None:
    small = fit(log(2.0, 0.5, 0.5, 0.005, np.random.default_rng(8)))
    large = guessed(small, 4.0, np.random.default_rng(0))
    assert large.points == 0 and np.median(large.at(1e9)) < np.median(small.at(1e9))
    assert large.at(1e8).std() > 5 * small.at(1e8).std()
