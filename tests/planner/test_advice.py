"""`growth.training.advise` on made-up runs whose outcome is known."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from growth import training
from growth.errors import CheckpointError, IllegalGrowthError, UnsupportedModelError
from growth.planner import advise, advising, alternatives, decision, head_start, loss_curves
from growth.planner.advice import Advice
from growth.planner.curve_pairs import drawn_together
from growth.planner.head_start import KNOWN, draw_carry, grown_loss
from growth.planner.loss_curves import DRAWS, LossCurve, fit
from growth.planner.training_logs import TrainingLog

Pairs = list[tuple[float, float]]


def log(floor: float, excess: float, exponent: float, end: float, noise: float = 0.002, seed: int = 0) -> Pairs:
    """30 points up to ``end`` tokens; the excess is that at 1e8."""
    tokens = np.geomspace(end / 10, end, 30)
    loss = floor + excess * (tokens / 1e8) ** -exponent + noise * np.random.default_rng(seed).standard_normal(30)
    return [(float(one), float(other)) for one, other in zip(tokens, loss, strict=True)]


CASES: dict[str, tuple[Pairs, Pairs, float, float, str]] = {
    "grow": (log(2.9, 0.3, 0.4, 6e8), log(2.0, 1.2, 0.4, 1.5e8, seed=1), 4, 1.5e8, "depth"),
    "train on": (log(2.2, 0.5, 0.4, 4e8), log(2.15, 0.8, 0.4, 1e8, seed=1), 8, 1e8, "width"),
    "cannot tell": (log(2.6, 0.5, 0.4, 2e8), log(2.2, 0.6, 0.4, 1e8, seed=1), 4, 1e8, "width"),
}
"""Verdict -> logs of the small and the large model, cost ratio, budget in tokens of the large one, axis."""


def case(name: str, **changes: Any) -> Advice:
    small, large, ratio, budget, axis = CASES[name]
    return advise(small, large, **{"cost_ratio": ratio, "budget_tokens": budget, "axis": axis, **changes})


@pytest.mark.parametrize("name", CASES)
def test_what_is_clear_is_said_and_what_is_not_is_not(name: str) -> None:
    advice = case(name)
    assert advice.verdict == name
    lowest = min(advice.candidates, key=lambda one: one.loss.middle)
    assert (lowest.behind.low, lowest.behind.high) == (0, 0) and sum(one.best for one in advice.candidates) > 0.999
    assert (", in depth: " in advice.recommendation) == (name == "grow")
    assert advice.recommendation.startswith(
        {"grow": "grow at", "train on": "train the small"}.get(name, "cannot tell:")
    )
    assert "gap closure" in str(advice) and " ".join(str(advice).split()).endswith(advice.recommendation)
    assert str(advice) == str(case(name))


def test_a_large_model_that_is_cheap_and_better_is_started_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a small phase carries nothing over. What is known is not so sure, which leaves it open."""
    small, large = log(3.2, 0.3, 0.4, 2e8), log(2.0, 0.6, 0.4, 1e8, seed=1)
    options: dict[str, Any] = {"cost_ratio": 1.5, "budget_tokens": 1e8, "axis": "width"}
    assert advise(small, large, **options).verdict == "cannot tell"
    monkeypatch.setattr(alternatives, "SHARES", (0.5,))
    monkeypatch.setattr(advising, "draw_carry", lambda *_: np.zeros(DRAWS))
    advice = advise(small, large, **options)
    assert advice.verdict == "start large" and len(advice.ruled_out) == 2


def test_twins_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two models of one curve and all but one cost, with nothing left open."""
    monkeypatch.setattr(alternatives, "DECAY_OWN", 0.0)
    monkeypatch.setattr(loss_curves, "DRIFT", 0.0)
    monkeypatch.setattr(advising, "draw_carry", lambda *_: np.zeros(DRAWS))
    monkeypatch.setattr(advising, "drawn_together", lambda curves, random: [curves[0]] * 2)
    one = log(2.2, 0.5, 0.4, 1e8, noise=1e-5)
    advice = advise(one, one, cost_ratio=1.001, budget_tokens=1e8)
    assert advice.verdict == "no difference" and "within 0.005 nats" in advice.recommendation


def truth(random: np.random.Generator) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Two curves of models on one text: floor, excess at 1e8 tokens, exponent."""
    exponent = 0.4 * np.exp(0.2 * random.standard_normal())
    small = (2.4, 0.3 + 0.4 * random.random(), exponent)
    large = (
        2.4 - 0.3 * random.random(),
        0.3 + 0.5 * random.random(),
        exponent * np.exp(0.2 * random.standard_normal()),
    )
    return small, large


def known(curve: tuple[float, float, float]) -> LossCurve:
    """A curve as if it were known."""
    floor, excess, exponent = (np.full(DRAWS, value) for value in curve)
    return LossCurve(1e8, floor, excess, exponent, 0.0, 1, np.zeros(DRAWS))


def held(monkeypatch: pytest.MonkeyPatch, worlds: int = 60) -> float:
    """How often the interval of a difference between candidates holds it, over worlds that are as the planner says:
    what growth carries over and what a decay takes off are drawn as it draws them."""
    random, found = np.random.default_rng(11), []
    for world in range(worlds):
        small, large = truth(random)
        logs = [log(*small, 5e7, 0.01, 2 * world), log(*large, 5e7, 0.01, 2 * world + 1)]
        advice = advise(*logs, cost_ratio=3.0, budget_tokens=2e8, axis="width")
        carry = np.full(DRAWS, head_start.draw_carry("width", None, 1, random)[0])
        one = alternatives.Large("large", known(large), carry, 3.0)
        ends = [float(way.loss[0]) for way in alternatives.alternatives(known(small), [one], 6e8, 0.0, random)]
        best = next(n for n, one in enumerate(advice.candidates) if one.behind.low == one.behind.high)
        for number, candidate in enumerate(advice.candidates):
            if number != best:
                found.append(candidate.behind.low <= ends[number] - ends[best] <= candidate.behind.high)
    return float(np.mean(found))


def test_intervals_of_differences_hold_as_often_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 300 differences in 60 worlds, where those of one world go together."""
    monkeypatch.setattr(loss_curves, "DRIFT", 0.0)
    monkeypatch.setattr("growth.planner.curve_pairs.DRIFT", 0.0)
    assert 0.88 <= held(monkeypatch) <= 0.995


@pytest.mark.slow
def test_too_sure_a_planner_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that knows what growth carries over, at its most likely; and one that knows the curves."""
    monkeypatch.setattr(loss_curves, "DRIFT", 0.0)
    monkeypatch.setattr("growth.planner.curve_pairs.DRIFT", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(advising, "draw_carry", lambda *_: np.ones(DRAWS))
        assert held(patch) < 0.85
    with monkeypatch.context() as patch:
        patch.setattr(advising, "drawn_together", lambda curves, random: [one.typical(2e8) for one in curves])
        assert held(patch) < 0.85


def test_the_head_start() -> None:
    small, large = known((2.4, 0.5, 0.4)), known((2.2, 0.6, 0.4))
    zero, whole = np.zeros(DRAWS), np.ones(DRAWS)
    at_once = grown_loss(small, large, zero, 1e8, 0.0)
    assert np.allclose(at_once, small.at(1e8))
    assert np.allclose(grown_loss(small, large, whole, 1e8, 0.0), small.at(1e8))  # nothing is carried over at once
    assert np.allclose(grown_loss(small, large, whole, 1e8, 1e9), large.at(1.1e9))
    assert np.allclose(grown_loss(small, large, zero, 0.0, 1e8), large.at(1e8))
    never = known((3.0, 0.5, 0.4))  # never as low: no more than its own tokens
    assert np.allclose(grown_loss(large, never, zero, 1e8, 1e8), never.at(2e8))
    assert grown_loss(small, large, -0.3 * whole, 1e8, 1e8).mean() > grown_loss(small, large, zero, 1e8, 1e8).mean()


@pytest.mark.parametrize("axis", KNOWN)
def test_long_runs_go_by_what_is_published(axis: str) -> None:
    random = np.random.default_rng(0)
    short, long, unsaid = (float(draw_carry(axis, length, DRAWS, random).mean()) for length in (20.0, 2000.0, None))
    if KNOWN[axis].own == KNOWN[axis].published:  # of depth none is published
        assert short == pytest.approx(long, abs=0.05)
    else:
        assert short < unsaid < long
    assert head_start.published_share(20.0) == 0.05
    assert (np.abs(draw_carry(axis, None, DRAWS, random)) <= 1).all()


def test_the_break_even_is_where_growing_ties_with_starting_large() -> None:
    """By its definition: eta > eta* in just those draws where growth ends lower at equal FLOPs."""
    random = np.random.default_rng(0)
    curves = drawn_together([fit(TrainingLog("", *np.array(one).T)) for one in CASES["cannot tell"][:2]], random)
    large = alternatives.Large("large", curves[1], draw_carry("width", None, DRAWS, random), 4.0)
    ways = alternatives.alternatives(curves[0], [large], 4e8, 0.0, random)
    scratch = curves[1].at(1e8)
    for way in ways:
        if way.kind == "grow":
            assert way.gap_closure is not None and way.break_even is not None
            grown = grown_loss(curves[0], curves[1], large.carry, way.small_tokens, way.large_tokens)
            clear = np.abs(grown - scratch) > 1e-9
            assert ((way.gap_closure > way.break_even) == (grown < scratch))[clear].all()
            assert way.small_tokens + 4 * way.large_tokens == pytest.approx(4e8)


def test_what_is_there_already_is_not_paid() -> None:
    paid, free = case("cannot tell"), case("cannot tell", small_is_free=True)
    assert free.free == 2e8 and paid.free == 0
    assert [one.kind for one in free.candidates].count("grow") == 5 and free.candidates[2].share == 0
    for one in free.candidates[2:]:
        assert one.small_tokens - 2e8 + 4 * one.large_tokens == pytest.approx(4e8)
    assert free.candidates[0].small_tokens == 6e8 and free.candidates[1].loss.middle == pytest.approx(
        paid.candidates[1].loss.middle, abs=0.005
    )
    assert free.candidates[4].loss.middle < paid.candidates[3].loss.middle
    assert "grow now" in str(free) and "are not counted" in str(free)


def test_without_a_log_of_the_large_model_it_is_a_guess_and_says_so() -> None:
    small, _, ratio, budget, _ = CASES["cannot tell"]
    advice = advise(small, cost_ratio=ratio, budget_tokens=budget)
    assert advice.verdict == "cannot tell" and "GUESSED" in str(advice) and advice.curves["large"].points == 0
    assert "a run of the large model of 25M tokens" in advice.recommendation
    spans = [one.loss.high - one.loss.low for one in (advice.candidates[1], case("cannot tell").candidates[1])]
    assert spans[0] > 2 * spans[1]


def test_what_would_tell_most(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = log(2.2, 0.6, 0.4, 1e7, noise=0.05, seed=1)
    small, _, ratio, budget, axis = CASES["cannot tell"]
    advice = advise(small, noisy, cost_ratio=ratio, budget_tokens=budget, axis=axis)
    assert "What would tell most: a run of the large model of 40M tokens" in advice.recommendation
    assert "the budget is 10 times" not in str(advice)
    assert "a trial growth of the small model after 200M tokens" in case("cannot tell").recommendation


def test_several_large_models() -> None:
    small, large, *_ = CASES["grow"]
    better = log(2.0, 0.9, 0.4, 1e8, noise=0.002, seed=3)
    advice = advise(small, {"wide": large, "deep": better}, cost_ratio={"wide": 4, "deep": 4}, budget_tokens=1.5e8)
    assert {one.model for one in advice.candidates} == {"", "wide", "deep"} and len(advice.candidates) == 11
    assert "grow into deep at" in advice.recommendation and "start with wide" in str(advice)
    swapped = advise(small, {"wide": large, "deep": better}, cost_ratio={"deep": 4, "wide": 4}, budget_tokens=1.5e8)
    assert {one.model: one.loss for one in swapped.candidates if one.kind == "large"}.keys() == {"wide", "deep"}


def test_as_json_and_html() -> None:
    advice = case("cannot tell")
    told = json.loads(json.dumps(advice.to_json(), allow_nan=False))
    assert told["verdict"] == "cannot tell" and len(told["candidates"]) == 6
    assert told["candidates"][2]["gap_closure"]["middle"] > 0.5 and told["curves"]["small"]["points"] == 24
    assert "<table>" in advice._repr_html_() and repr(advice).startswith("Advice('cannot tell'")


def test_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    small, _, ratio, budget, _ = CASES["cannot tell"]
    for name, advice in (
        ("a.png", case("cannot tell")),
        ("b.svg", advise(small, cost_ratio=ratio, budget_tokens=budget)),
    ):
        advice.plot(tmp_path / name)
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG" and b"<svg" in (tmp_path / "b.svg").read_bytes()


def test_a_picture_needs_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UnsupportedModelError, match=r"pip install 'transformer-growth\[plot\]'"):
        case("cannot tell").plot(tmp_path / "a.png")


RATIO: dict[str, Any] = {"cost_ratio": 4, "budget_tokens": 1e8}
LLAMA = {"model_type": "llama"}
REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no costs": ({"budget_tokens": 1e8}, IllegalGrowthError, "not said what a token of the large model costs"),
    "one config": ({"small_config": {}, "budget_tokens": 1e8}, IllegalGrowthError, "Give both configs"),
    "costs twice": ({**RATIO, "small_config": {}}, IllegalGrowthError, "the costs are given twice"),
    "no budget": ({"cost_ratio": 4}, IllegalGrowthError, "no budget is given"),
    "two budgets": ({**RATIO, "budget_flops": 1e20}, IllegalGrowthError, "given twice"),
    "FLOPs of a ratio": ({"cost_ratio": 4, "budget_flops": 1e20}, IllegalGrowthError, "needs the FLOPs of a token"),
    "a cheaper model": ({**RATIO, "cost_ratio": 0.5}, IllegalGrowthError, "Check which of the two is which"),
    "no ratio": ({**RATIO, "cost_ratio": "much"}, IllegalGrowthError, "must be a number above 1"),
    "no number": ({**RATIO, "budget_tokens": float("nan")}, IllegalGrowthError, "the budget must be a number above 0"),
    "a budget of one token": (
        {**RATIO, "budget_tokens": 1},
        IllegalGrowthError,
        r"pays for 4 tokens of the small model, and its curve begins at .*first 15% of a log.*larger budget",
    ),
    "a sequence length beside a ratio": (
        {**RATIO, "context": 64},
        IllegalGrowthError,
        r"Leave context \(--context\) out",
    ),
    "an axis beside configs": (
        {"small_config": LLAMA, "large_config": LLAMA, "axis": "width", "budget_tokens": 1e8},
        IllegalGrowthError,
        r"axis \(--axis\) goes with the ratio",
    ),
    "a sequence of no tokens": (
        {"small_config": LLAMA, "large_config": LLAMA, "context": 0, "budget_tokens": 1e8},
        IllegalGrowthError,
        "context must be a whole number above 0",
    ),
    "another axis": ({**RATIO, "axis": "sideways"}, IllegalGrowthError, "axis must be width or depth"),
    "free or not": ({**RATIO, "small_is_free": "yes"}, IllegalGrowthError, "small_is_free must be True or False"),
    "other names": (
        {"large_log": {"wide": log(2.2, 0.6, 0.4, 1e8)}, "cost_ratio": {"deep": 4}, "budget_tokens": 1e8},
        IllegalGrowthError,
        "Call them alike",
    ),
    "called small": ({**RATIO, "cost_ratio": {"small": 4}}, IllegalGrowthError, "a name, other than 'small'"),
    "a rising loss": ({**RATIO, "large_log": log(2.2, -0.6, 0.4, 1e8)}, CheckpointError, "does not fall"),
}


@pytest.mark.parametrize(("options", "error", "says"), REFUSED.values(), ids=REFUSED)
def test_refusals(options: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        advise(CASES["grow"][0], **options)


def test_it_is_public() -> None:
    assert training.advise is advising.advise and decision.PRACTICAL == 0.005
