"""A trial growth: what its log says of what growth carries over."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from growth.errors import CheckpointError, IllegalGrowthError
from growth.planner import advise, advising, alternatives, curve_pairs, loss_curves, trial
from growth.planner.advice import Advice
from growth.planner.head_start import grown_loss
from growth.planner.loss_curves import DRAWS, LossCurve

Curve = tuple[float, float, float]
AT = 5e7


def known(curve: Curve) -> LossCurve:
    """A curve (floor, excess at 1e8 tokens, exponent) as if it were known."""
    floor, excess, exponent = (np.full(DRAWS, value) for value in curve)
    return LossCurve(1e8, floor, excess, exponent, 0.0, 1, np.zeros(DRAWS))


def points(curve: Curve, end: float, seed: int, noise: float = 0.005) -> list[tuple[float, float]]:
    tokens = np.geomspace(end / 10, end, 25)
    loss = known(curve).at(tokens[:, None])[:, 0] + noise * np.random.default_rng(seed).standard_normal(25)
    return list(zip(tokens.tolist(), loss.tolist(), strict=True))


def grown(small: Curve, large: Curve, carry: float, end: float, seed: int, noise: float = 0.005) -> Any:
    """The small model's points, then those of the grown one, as the log of one run has them."""
    tokens = np.linspace(AT + 2e6, end, 25)
    fixed = np.full(DRAWS, carry)
    loss = np.array([grown_loss(known(small), known(large), fixed, AT, at - AT)[0] for at in tokens])
    loss += noise * np.random.default_rng(seed).standard_normal(25)
    before = [point for point in points(small, AT, seed + 1) if point[0] <= AT]
    return [*before, *zip(tokens.tolist(), loss.tolist(), strict=True)]


SMALL, LARGE = (2.4, 0.5, 0.4), (2.1, 0.6, 0.4)
OPTIONS: dict[str, Any] = {"cost_ratio": 3.0, "budget_tokens": 2e8, "axis": "width"}


def advised(carry: float | None, **changes: Any) -> Advice:
    logs = points(SMALL, 1e8, 0), points(LARGE, 1e8, 1)
    tried = {} if carry is None else {"grown_log": grown(SMALL, LARGE, carry, 1.2e8, 2), "grown_at": AT}
    return advise(*logs, **{**OPTIONS, **tried, **changes})


def closed(advice: Advice) -> tuple[float, float]:
    """The middle and the width of the gap closure of growing at 50 %."""
    found = next(one.gap_closure for one in advice.candidates if one.share == 0.5)
    assert found is not None
    return found.middle, found.high - found.low


def test_it_tells_a_growth_that_carries_much_from_one_that_carries_nothing() -> None:
    (much, sure), (nothing, too), (unknown, unsure) = (closed(advised(carry)) for carry in (0.9, -0.4, None))
    assert nothing + 0.1 < unknown < much - 0.02 and sure < 0.7 * unsure and too < unsure
    advice = advised(0.9)
    assert "a trial growth after 50M tokens, seen to 120M" in str(advice) and advice.trial is not None


def held(worlds: int = 40) -> float:
    """How often the intervals of growth against starting large hold, over worlds whose carry a trial is to find."""
    random, found = np.random.default_rng(3), []
    for world in range(worlds):
        carry = float(np.clip(0.5 * random.standard_normal(), -1, 1))
        large = (2.1, 0.5 + 0.2 * random.random(), 0.4)
        logs = points(SMALL, 1e8, 3 * world), points(large, 1e8, 3 * world + 1)
        tried = grown(SMALL, large, carry, 1.2e8, 3 * world + 2)
        advice = advise(*logs, grown_log=tried, grown_at=AT, **OPTIONS)
        one = alternatives.Large("large", known(large), np.full(DRAWS, carry), 3.0)
        ends = [float(way.loss[0]) for way in alternatives.alternatives(known(SMALL), [one], 6e8, 0.0, random)]
        for number in (2, 3, 4, 5):
            difference = advice.candidates[number].drawn - advice.candidates[1].drawn
            low, high = np.quantile(difference, (0.025, 0.975))
            found.append(low <= ends[number] - ends[1] <= high)
    return float(np.mean(found))


def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves that stay power laws, and decays that take off all alike."""
    for module in (loss_curves, curve_pairs):
        monkeypatch.setattr(module, "DRIFT", 0.0)
    for name in ("DECAY", "DECAY_SPREAD", "DECAY_OWN"):
        monkeypatch.setattr(alternatives, name, 0.0)


def test_its_intervals_hold_as_often_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    exact(monkeypatch)
    assert held() >= 0.88


def test_a_trial_that_is_believed_too_much_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose last word is taken for all times of growth; and one that is not read."""
    exact(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(trial, "likely", lambda small, large, *_: np.full(DRAWS, np.argmax(large.carry)))
        assert held(20) < 0.6
    monkeypatch.setattr(advising, "tried", lambda small, large, *_: (small, large))
    assert closed(advised(0.9)) == closed(advised(-0.4))
    with pytest.raises(AssertionError):
        test_it_tells_a_growth_that_carries_much_from_one_that_carries_nothing()


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no log": ({"grown_log": None}, IllegalGrowthError, "needs its log and after how many tokens"),
    "no place": ({"grown_at": None}, IllegalGrowthError, "needs its log and after how many tokens"),
    "a place that is none": ({"grown_at": -1}, IllegalGrowthError, "a number above 0"),
    "after the log": ({"grown_at": 1e9}, CheckpointError, "has 0 points at a constant learning rate after 1e\\+09"),
    "several models": ({"cost_ratio": {"wide": 3, "deep": 2}, "large_log": None}, IllegalGrowthError, "there are 2"),
    "its name": (
        {"cost_ratio": {"grown": 3}, "large_log": None},
        IllegalGrowthError,
        "other than 'small' and 'grown'",
    ),
}


@pytest.mark.parametrize(("changes", "error", "says"), REFUSED.values(), ids=REFUSED)
def test_refusals(changes: dict[str, Any], error: type[Exception], says: str) -> None:
    tried: dict[str, Any] = {"grown_log": grown(SMALL, LARGE, 0.0, 1.2e8, 2), "grown_at": AT}
    logs: dict[str, Any] = {"small_log": points(SMALL, 1e8, 0), "large_log": points(LARGE, 1e8, 1)}
    with pytest.raises(error, match=says):
        advise(**{**logs, **OPTIONS, **tried, **changes})
