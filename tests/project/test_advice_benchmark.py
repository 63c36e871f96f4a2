"""The scores of `benchmarks/advice.py`, on made-up runs in the format of `payoff.jsonl`."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from growth.planner.run_costs import cost_of

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import advice
from advice import Score, scores, table
from advice_runs import Comparison, comparisons, config_of, constant, judged, trial_of
from payoff_results import read

HEADER = {"setting": {"batch": 8, "context": 64, "warmup": 10, "steps": 2000, "head_dim": 12, "symbols": 96}}
STEP = 512
SMALL, LARGE = (cost_of(config_of(size, HEADER["setting"]), 64).flops for size in ("24x2", "48x2"))
"""FLOPs of a token."""


def run(arm: str, report: float, seed: int, grown_at: float | None = None, **changes: Any) -> dict[str, Any]:
    """A run of 3000 steps' worth of the large model; its loss is a power law that ends at ``report``, the decay of its
    last quarter taking 0.1 off."""
    cost = SMALL if arm == "small" else LARGE
    steps = round(3000 * LARGE / cost)
    marks = sorted({*(round(steps * 2 ** (-n / 2)) for n in range(14)), steps * 3 // 4})
    curve = []
    for step in marks:
        loss = report - 0.4 + 0.5 * (step / steps) ** -0.4 - (0.1 if step > steps * 3 // 4 else 0.0)
        curve.append([step * STEP, step * STEP * cost, loss])
    return {
        "job": f"{arm} {grown_at}",
        "axis": "width",
        "factor": 2.0,
        "horizon": 1.0,
        "arm": arm,
        "small": "24x2",
        "large": "48x2",
        "recipe": "noise:1" if arm == "grown" else "",
        "symmetry": "noise:1" if arm == "grown" else "",
        "grown_at": grown_at,
        "schedule": "wsd",
        "wide_factor": 1.0,
        "lr": 0.004,
        "seed": seed,
        "steps": steps,
        "flops_before": round((grown_at or 0.0) * 0.3 * steps) * STEP * SMALL,
        "decay_steps": steps // 4,
        "tokens": steps * STEP,
        "flops": steps * STEP * cost,
        "report": report,
        "curve": curve,
        **changes,
    }


def runs(scratch: float, small: float, grown: dict[float, float]) -> list[dict[str, Any]]:
    """Four seeds of each arm, 0.001 apart."""
    arms = [("scratch", scratch, None), ("small", small, None), *(("grown", loss, at) for at, loss in grown.items())]
    return [run(arm, loss + 0.001 * seed, seed, at) for arm, loss, at in arms for seed in range(4)]


RUNS = runs(1.60, 1.70, {0.25: 1.62, 0.5: 1.58})


def test_arms_that_count() -> None:
    others = [
        run("grown", 1.0, 0, 0.5, recipe="noise:4", symmetry="noise:4"),
        run("grown", 1.0, 0, 0.5, wide_factor=1.41),
        run("scratch", 1.0, 0, schedule="cosine"),
        run("scratch", 1.0, 100, sweep="scratch, width"),
        run("middle", 1.0, 0),
        run("trunk", 1.0, 0, axis="", schedule="constant", horizon=None),
        run("scratch", float("nan"), 9),
        *(run("scratch", 1.0, seed, horizon=4.0) for seed in range(4)),  # no growth of that horizon
    ]
    (found,) = comparisons([*RUNS, *others])
    assert set(found.ways) == {("large", None), ("small", None), ("grow", 0.25), ("grow", 0.5)}
    assert [len(ways) for ways in found.ways.values()] == [4] * 4 and found.mean(("large", None)) == pytest.approx(
        1.6015
    )


def test_what_is_right_wrong_and_not_resolved() -> None:
    (found,) = comparisons(RUNS)
    assert judged(found, ("grow", 0.5)) == "right"
    assert judged(found, ("large", None)) == judged(found, ("grow", 0.25)) == judged(found, ("small", None)) == "wrong"
    (near,) = comparisons(runs(1.584, 1.70, {0.5: 1.58}))
    assert judged(near, ("large", None)) == "right"
    wild = [dict(one, report=one["report"] + 0.1 * (-1) ** one["seed"]) for one in RUNS]
    assert judged(comparisons(wild)[0], ("large", None)) == "not resolved"


def test_the_planner_sees_the_beginning_alone() -> None:
    one = RUNS[0]
    seen = constant(one, 0.25 * one["flops"], 10, STEP)
    assert max(seen["tokens"]) <= 0.25 * one["tokens"] and seen["learning_rate"][-1] == 1
    assert constant(one, 1e18, 10, STEP)["tokens"][-1] == 0.75 * one["tokens"]
    late = [dict(one, curve=[[*point[:2], 9.9] if point[1] > 0.25 * one["flops"] else point for point in one["curve"]])
            for one in RUNS]  # fmt: skip
    (score,), (other,) = (list(scores(HEADER, records, [0.25])) for records in (RUNS, late))
    assert score.answers == other.answers and score.ruled_out == other.ruled_out
    assert (
        sum(score.answers.values()) == 4
        and "too few points" not in score.answers
        and score.held["loss"] != other.held["loss"]
    )


def test_scores_of_an_answer() -> None:
    """Of what the planner says, with the verdict and the intervals put in its mouth."""
    said = advice.advise(
        *(constant(one, 1e18, 10, STEP) for one in (RUNS[4], RUNS[0])),
        cost_ratio=LARGE / SMALL,
        budget_tokens=RUNS[0]["tokens"],
        axis="width",
    )
    sure = {
        kind: replace(said, verdict=verdict, candidates=tuple(_lowest(one, kind, share) for one in said.candidates))
        for kind, verdict, share in (
            ("grow", "grow", 0.5),
            ("large", "start large", None),
            ("small", "train on", None),
        )
    }
    outcomes = {}
    for kind, answer in sure.items():
        score = Score(comparisons(RUNS)[0], 0.5)
        score.add(answer, RUNS[4], RUNS[0], STEP)
        outcomes[kind] = (dict(score.outcomes), dict(score.ruled_out))
    assert outcomes["grow"] == ({"right": 1}, {"right": 4})
    assert outcomes["large"][0] == {"wrong": 1} and outcomes["large"][1]["wrong"] >= 1
    assert outcomes["small"][0] == {"wrong": 1} and outcomes["small"][1] == {"wrong": 4}  # nothing was run near 75 %


def _lowest(one: Any, kind: str, share: float | None) -> Any:
    """A candidate as one that is lowest for sure, or ruled out."""
    interval = type(one.behind)
    lowest = one.kind == kind and one.share == share
    return replace(one, behind=interval(0, 0, 0) if lowest else interval(0.02, 0.01, 0.03))


def test_the_file_and_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "payoff.jsonl"
    lines = [json.dumps(HEADER), *map(json.dumps, RUNS)]
    path.write_text("\n".join(lines))
    assert read(path) == (HEADER, RUNS)
    monkeypatch.setattr(advice.head_start, "KNOWN", dict(advice.head_start.KNOWN))
    monkeypatch.setattr(sys, "argv", ["advice.py", str(path), "--shares", "0.25", "0.5"])
    advice.main()
    shown = capsys.readouterr().out
    assert advice.head_start.KNOWN["width"].own_spread == 0.2  # what was known before
    assert "| width x2 | 1 | 25 % |" in shown and "| always grow at 50 % | 1 | 0 | 0 |" in shown
    assert len({line.count("|") for line in table(list(scores(HEADER, RUNS, [0.25]))).splitlines()}) == 1
    path.write_text("\n".join([lines[0], '{"torn', *lines[1:]]))
    with pytest.raises(json.JSONDecodeError):
        read(path)


def test_way_of_a_candidate() -> None:
    (found,) = comparisons(RUNS)
    said = advice.advise(
        *(constant(one, 1e18, 10, STEP) for one in (RUNS[4], RUNS[0])), cost_ratio=LARGE / SMALL, budget_tokens=1e6
    )
    ways = [found.found(one) for one in said.candidates]
    assert ways == [("small", None), ("large", None), ("grow", 0.25), ("grow", 0.25), ("grow", 0.5), None]
    assert isinstance(found, Comparison) and np.isfinite(found.difference(("large", None), ("small", None))).all()


def test_costs_are_those_of_the_runs() -> None:
    """By hand: four projections and three feed-forward matrices of each layer, the head, attention over 64 tokens."""
    assert SMALL == 6 * (2 * (4 * 24**2 + 3 * 24 * 64) + 96 * 24) + 12 * 2 * 64 * 24


def test_logs_with_too_few_points_are_counted() -> None:
    (score,) = scores(HEADER, RUNS, [0.01])
    assert score.answers == {"too few points": 4} and not score.held


def test_a_trial_is_the_beginning_of_the_first_growth() -> None:
    (found,) = comparisons(RUNS)
    tried = trial_of(found, 0, 0.5 * RUNS[0]["flops"], HEADER["setting"])
    first = next(one for one in RUNS if one["grown_at"] == 0.25)
    assert tried["grown_at"] == round(0.25 * 0.3 * 3000) * STEP
    assert tried["grown_log"] == constant(first, 0.5 * RUNS[0]["flops"], 10, STEP)
    assert trial_of(found, 9, 1e18, HEADER["setting"]) == {}
    (score,), (without,) = (list(scores(HEADER, RUNS, [0.5], trial)) for trial in (True, False))
    assert score.errors["difference"] != without.errors["difference"]
