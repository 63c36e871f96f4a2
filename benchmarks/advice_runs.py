"""The runs of `payoff.py` for `advice.py`: comparisons of equal FLOPs, and the beginnings of their curves."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, variance
from typing import Any

import payoff_results
from payoff_results import Name, Record

from growth.planner.advice import Candidate
from growth.planner.decision import PRACTICAL
from growth.planner.run_costs import cost_of

RESULTS = Path(__file__).parent / "payoff.jsonl"
RECIPES = {
    "width": ("noise:2", "noise:1"),
    "depth": ("exact layers, stacked", "exact layers"),
    "both": ("noise:2, exact layers, stacked", "noise:1, exact layers"),
}
"""Axis -> the recipe that counts as growing: growth's default; where that was not run, what the default was."""
REFERENCES = {"scratch": "large", "small": "small"}
NEAR = 0.16
"""A recommended time of growth stands for runs that grew at most this share of the steps earlier or later."""


@dataclass
class Comparison:
    """Runs of equal FLOPs: way (kind, share of the steps before the growth) -> the runs, by seed."""

    axis: str
    factor: float
    horizon: float
    small: str
    large: str
    ways: dict[tuple[str, float | None], dict[int, Record]] = field(default_factory=dict)

    def losses(self, way: tuple[str, float | None]) -> list[float]:
        return [run["report"] for run in self.ways[way].values()]

    def mean(self, way: tuple[str, float | None]) -> float:
        return fmean(self.losses(way))

    def difference(self, one: tuple[str, float | None], other: tuple[str, float | None]) -> tuple[float, float]:
        """How much higher one way ends than another, and half of its 95 % interval (two standard errors)."""
        parts = [variance(losses) / len(losses) for losses in (self.losses(one), self.losses(other))]
        return self.mean(one) - self.mean(other), 2 * math.sqrt(sum(parts))

    def found(self, candidate: Candidate) -> tuple[str, float | None] | None:
        """The way that was run which is nearest to a candidate; None if none is near."""
        if candidate.kind != "grow":
            return (candidate.kind, None)
        grown = [way for way in self.ways if way[0] == "grow"]
        near = min(grown, key=lambda way: abs((way[1] or 0.0) - (candidate.share or 0.0)))
        return near if abs((near[1] or 0.0) - (candidate.share or 0.0)) <= NEAR else None


def comparisons(records: Iterable[Record]) -> list[Comparison]:
    """Those that have both references and a growth, of at least two seeds each, at the rates that were chosen."""
    found = []
    for one in payoff_results.comparisons(record for record in records if math.isfinite(record["report"])):
        ways: dict[tuple[str, float | None], dict[int, Record]] = {}
        for arm, kind in REFERENCES.items():
            if row := one.rows.get(Name(arm, "", None, 1.0)):
                ways[kind, None] = row.runs
        for share in dict.fromkeys(name.grown_at for name in one.rows if name.arm == "grown"):
            named = (one.rows.get(Name("grown", recipe, share, 1.0)) for recipe in RECIPES.get(one.axis, ()))
            if row := next(filter(None, named), None):
                ways["grow", share] = row.runs
        complete = {"large", "small", "grow"} <= {kind for kind, _ in ways}
        if one.schedule == "wsd" and complete and all(len(runs) > 1 for runs in ways.values()):
            found.append(Comparison(one.axis, one.factor, one.horizon, one.small, one.large, ways))
    return found


def constant(run: Record, flops: float, warmup: int, tokens_per_step: int) -> dict[str, list[float]]:
    """The points of a run up to so many FLOPs and before its learning rate falls, with the rates."""
    last = (run["steps"] - run["decay_steps"]) * tokens_per_step
    points = [(tokens, loss) for tokens, spent, loss in run["curve"] if spent <= flops and tokens <= last]
    rates = [min(1.0, tokens / tokens_per_step / warmup) for tokens, _ in points]
    return {"tokens": [one for one, _ in points], "loss": [loss for _, loss in points], "learning_rate": rates}


def config_of(size: str, setting: Record) -> dict[str, Any]:
    """The config of a size such as ``24x2``, as `payoff.py` builds it."""
    width, layers = map(int, size.split("x"))
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": width,
        "intermediate_size": 8 * round(width / 3),
        "num_hidden_layers": layers,
        "num_attention_heads": width // setting["head_dim"],
        "vocab_size": setting["symbols"],
        "max_position_embeddings": setting["context"],
        "tie_word_embeddings": False,
    }


def trial_of(comparison: Comparison, seed: int, flops: float, setting: Record) -> dict[str, Any]:
    """The log of the growth that came first, up to so many FLOPs, and where it grew; nothing if that seed has none."""
    grown = comparison.ways[min((way for way in comparison.ways if way[0] == "grow"), key=lambda way: way[1] or 0.0)]
    if seed not in grown:
        return {}
    per_step = setting["batch"] * setting["context"]
    log = constant(grown[seed], flops, setting["warmup"], per_step)
    cost = cost_of(config_of(grown[seed]["small"], setting), setting["context"]).flops
    return {"grown_log": log, "grown_at": grown[seed]["flops_before"] / cost}


def judged(comparison: Comparison, chosen: tuple[str, float | None]) -> str:
    """What became of choosing a way: right, wrong or not resolved."""
    lowest = min(comparison.ways, key=comparison.mean)
    behind, half = comparison.difference(chosen, lowest) if chosen != lowest else (0.0, 0.0)
    return "right" if behind <= PRACTICAL else "wrong" if behind > half else "not resolved"
