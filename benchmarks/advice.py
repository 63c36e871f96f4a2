"""How often `growth.training.advise` is right: on the runs of `payoff.py`, of which it sees the beginning.

    python benchmarks/advice.py [FILE] [--shares 0.1 0.25 0.5]

For every comparison in FILE (payoff.jsonl by default: an axis, a factor, a horizon), every seed and every share, the
planner is given the first part of the small model's and the large model's loss curves at a constant learning rate, up
to that share of the budget in FLOPs, with the learning rates, and both configs. What it knows of growth was written
down before these runs were made, and none of them is used to fit it. It is scored against the means over the seeds of
what the runs ended with, learning rate decayed, on the reported half of the held-out text:

* right: what it recommends ends within 0.005 nats of the best, or lower; wrong: higher by more, and beyond the 95 %
  interval of the difference (Welch); else not resolved. The same for what it expects to end lowest, where it says that
  it cannot tell;
* what it rules out, likewise: right where that ends higher, wrong where it ends lower than what was to be lowest;
* how many of the 95 % intervals hold: of the loss at the end of the constant rate, and of the differences between ways
  to spend the budget.

Beside it stand rules that look at no log: always grow at a quarter, always start large, always train on."""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, variance
from typing import Any

import numpy as np

from growth.errors import CheckpointError
from growth.training.advice import Advice, Candidate
from growth.training.decision import PRACTICAL
from growth.training.planner import advise

Record = dict[str, Any]
RESULTS = Path(__file__).parent / "payoff.jsonl"
RECIPES = {"width": "noise:1", "depth": "exact layers", "both": "noise:1, exact layers"}
"""Axis -> the recipe that counts as growing, of those that keep the function."""
REFERENCES = {"scratch": "large", "small": "small"}
NEAR = 0.16
"""A recommended time of growth stands for runs that grew at most this share of the steps earlier or later."""


def read(path: Path) -> tuple[Record, list[Record]]:
    """What describes the setting, and the runs; a last line that is still being written is left out."""
    lines = path.read_text(encoding="utf-8").splitlines()
    records = []
    for number, line in enumerate(lines):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            if number < len(lines) - 1:
                raise
    return records[0], records[1:]


@dataclass
class Comparison:
    """Runs of equal FLOPs: way (kind, share of the steps before the growth) -> the runs, by seed."""

    axis: str
    factor: float
    horizon: float
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


def comparisons(records: Sequence[Record]) -> list[Comparison]:
    """Those that have both references and a growth, of at least two seeds each."""
    found: dict[tuple[str, float, float], Comparison] = {}
    for run in records:
        if run.get("sweep") or run["schedule"] != "wsd" or run["wide_factor"] != 1 or not math.isfinite(run["report"]):
            continue
        if run["arm"] == "grown":
            if run.get("recipe", run.get("symmetry")) != RECIPES.get(run["axis"]):
                continue
            way: tuple[str, float | None] = ("grow", run["grown_at"])
        elif run["arm"] in REFERENCES:
            way = (REFERENCES[run["arm"]], None)
        else:
            continue
        key = (run["axis"], run["factor"], run["horizon"])
        found.setdefault(key, Comparison(*key)).ways.setdefault(way, {})[run["seed"]] = run
    return [
        one
        for one in found.values()
        if {"large", "small", "grow"} <= {kind for kind, _ in one.ways} and all(len(w) > 1 for w in one.ways.values())
    ]


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


@dataclass
class Score:
    """What became of the answers of one comparison and share.

    Args:
        answers: verdict -> how often; ``outcomes``: right, wrong, not resolved, cannot tell -> how often.
        leaning: the same of what it expects to end lowest, whatever its verdict.
        ruled_out: right, wrong, not resolved -> how often a way was ruled out so.
        held: kind of interval -> whether each held.
    """

    comparison: Comparison
    share: float
    answers: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    leaning: Counter[str] = field(default_factory=Counter)
    ruled_out: Counter[str] = field(default_factory=Counter)
    held: dict[str, list[bool]] = field(default_factory=dict)
    errors: dict[str, list[float]] = field(default_factory=dict)

    def add(self, advice: Advice, small: Record, large: Record, tokens_per_step: int) -> None:
        compared = self.comparison
        self.answers[advice.verdict] += 1
        best = next(one for one in advice.candidates if one.behind.low == one.behind.high)
        truth = compared.found(best)
        certain = advice.verdict not in ("cannot tell", "no difference")
        self.leaning[self._outcome(truth)] += 1
        self.outcomes["cannot tell" if not certain else self._outcome(truth)] += 1
        for one in advice.candidates:
            way = compared.found(one)
            if truth is None or way is None or way == truth or one is best:
                continue
            behind, half = compared.difference(way, truth)
            if one in advice.ruled_out:
                sure = "right" if behind > 0 else "wrong" if behind + half < 0 else "not resolved"
                self.ruled_out[sure] += 1
        exact = {way: one for one in advice.candidates if (way := compared.found(one)) in ((one.kind, one.share),)}
        for one, other in itertools.combinations(exact, 2):
            if "grow" not in (one[0], other[0]) or one[0] != other[0]:
                drawn = exact[one].drawn - exact[other].drawn
                self._hold("difference", compared.difference(one, other)[0], *np.quantile(drawn, (0.025, 0.975, 0.5)))
        for name, run in (("small", small), ("large", large)):
            points = constant(run, math.inf, 1, tokens_per_step)
            drawn = advice.curves[name].at(points["tokens"][-1])
            low, middle, high = np.quantile(drawn, (0.025, 0.5, 0.975))
            self._hold("loss", points["loss"][-1], low, high, middle)

    def _hold(self, kind: str, value: float, low: float, high: float, middle: float) -> None:
        self.held.setdefault(kind, []).append(bool(low <= value <= high))
        self.errors.setdefault(kind, []).append(float(middle - value))

    def _outcome(self, chosen: tuple[str, float | None] | None) -> str:
        if chosen is None:
            return "not run"
        return judged(self.comparison, chosen)


def judged(comparison: Comparison, chosen: tuple[str, float | None]) -> str:
    """What became of choosing a way: right, wrong or not resolved."""
    lowest = min(comparison.ways, key=comparison.mean)
    behind, half = comparison.difference(chosen, lowest) if chosen != lowest else (0.0, 0.0)
    return "right" if behind <= PRACTICAL else "wrong" if behind > half else "not resolved"


def scores(header: Record, records: Sequence[Record], shares: Sequence[float]) -> Iterator[Score]:
    """One for each comparison and share."""
    setting = header["setting"]
    per_step = setting["batch"] * setting["context"]
    for comparison in comparisons(records):
        small, large = comparison.ways["small", None], comparison.ways["large", None]
        for share in shares:
            score = Score(comparison, share)
            for seed in sorted(small.keys() & large.keys()):
                runs = small[seed], large[seed]
                configs = [config_of(run["small" if run is runs[0] else "large"], setting) for run in runs]
                logs = [constant(run, share * runs[1]["flops"], setting["warmup"], per_step) for run in runs]
                try:
                    advice = advise(
                        logs[0],
                        logs[1],
                        small_config=configs[0],
                        large_config=configs[1],
                        context=setting["context"],
                        budget_tokens=runs[1]["tokens"],
                    )
                except CheckpointError:
                    score.answers["too few points"] += 1
                    continue
                score.add(advice, *runs, per_step)
            yield score


def _of(held: list[bool] | None) -> str:
    return f"{sum(held)} of {len(held)}" if held else "-"


def table(found: Sequence[Score]) -> str:
    """As Markdown: a row for each comparison and share, then all of a share together."""
    lines = [
        "| growth | horizon | seen | answers | right | wrong | not resolved | cannot tell | expected lowest: right, "
        "wrong, not resolved | ruled out: right, wrong, not resolved | 95 % of losses | 95 % of differences |",
        "|---|---:|---:|---|---:|---:|---:|---:|---|---|---:|---:|",
    ]
    for one in found:
        compared = one.comparison
        lines.append(
            f"| {compared.axis} x{compared.factor:g} | {compared.horizon:g} | {100 * one.share:g} % | "
            + ", ".join(f"{answer} {count}" for answer, count in one.answers.most_common())
            + f" | {_cells(one.outcomes, one.leaning, one.ruled_out)} | {_of(one.held.get('loss'))} | "
            f"{_of(one.held.get('difference'))} |"
        )
    for share in dict.fromkeys(one.share for one in found):
        part = [one for one in found if one.share == share]
        outcomes = sum((one.outcomes for one in part), Counter[str]())
        leaning = sum((one.leaning for one in part), Counter[str]())
        ruled = sum((one.ruled_out for one in part), Counter[str]())
        answers = sum((one.answers for one in part), Counter[str]())
        held = {kind: [x for one in part for x in one.held.get(kind, [])] for kind in ("loss", "difference")}
        said = ", ".join(f"{answer} {count}" for answer, count in answers.most_common())
        lines.append(
            f"| all | | {100 * share:g} % | {said} | {_cells(outcomes, leaning, ruled)} | {_of(held['loss'])} | "
            f"{_of(held['difference'])} |"
        )
    return "\n".join(lines)


def _cells(outcomes: Counter[str], *others: Counter[str]) -> str:
    counts = " | ".join(str(outcomes[name]) for name in ("right", "wrong", "not resolved", "cannot tell"))
    threes = [", ".join(str(one[name]) for name in ("right", "wrong", "not resolved")) for one in others]
    return " | ".join([counts, *threes])


def rules(found: Sequence[Comparison]) -> str:
    """What became of rules that look at no log, and what each comparison showed."""
    fixed: dict[str, tuple[str, float | None]] = {
        "always grow at 25 %": ("grow", 0.25),
        "always grow at 50 %": ("grow", 0.5),
        "always start large": ("large", None),
        "always train on": ("small", None),
    }
    lines = ["| rule | right | wrong | not resolved |", "|---|---:|---:|---:|"]
    for name, way in fixed.items():
        counts = Counter(judged(one, way) for one in found if way in one.ways)
        lines.append(f"| {name} | {counts['right']} | {counts['wrong']} | {counts['not resolved']} |")
    lines.append("")
    for one in found:
        ends = sorted(one.ways, key=one.mean)
        shown = ", ".join(
            f"{kind}{'' if at is None else f' at {100 * at:g} %'} {one.mean((kind, at)):.4f}" for kind, at in ends
        )
        lines.append(f"{one.axis} x{one.factor:g}, horizon {one.horizon:g}: {shown}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", default=RESULTS)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.25, 0.5])
    args = parser.parse_args()
    header, records = read(args.file)
    found = list(scores(header, records, args.shares))
    print(table(found))
    print()
    print(rules(comparisons(records)))
    for kind in ("loss", "difference"):
        for share in args.shares:
            errors = [error for one in found if one.share == share for error in one.errors.get(kind, [])]
            if errors:
                rms = math.sqrt(fmean(error**2 for error in errors))
                mean = fmean(errors)
                print(f"{kind}, {100 * share:g} % seen: predicted minus measured {mean:+.4f}, rms {rms:.4f} nats")


if __name__ == "__main__":
    main()
