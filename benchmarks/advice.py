"""How often `growth.training.advise` is right: on the runs of `payoff.py`, of which it sees the beginning.

    python benchmarks/advice.py [FILE] [--shares 0.1 0.25 0.5] [--trial] [--now]

For every comparison in FILE (payoff.jsonl by default: an axis, a factor, a horizon), every seed and every share, the
planner is given the first part of the small model's and the large model's loss curves at a constant learning rate, up
to that share of the budget in FLOPs, with the learning rates, and both configs. What it knows of what growth carries
over is what was written down before these runs were made (`BEFORE`); with ``--now`` what the planner knows today,
these runs included. It is scored against the means over the seeds of what the runs ended with, learning rate decayed,
on the reported half of the held-out text:

* right: what it recommends ends within 0.005 nats of the best, or lower; wrong: higher by more, and beyond the 95 %
  interval of the difference (Welch); else not resolved. The same for what it expects to end lowest, where it says that
  it cannot tell;
* what it rules out, likewise: right where that ends higher, wrong where it ends lower than what was to be lowest;
* how many of the 95 % intervals hold: of the loss at the end of the constant rate, and of the differences between ways
  to spend the budget.

``--trial`` gives it the beginning of a growth as well, up to the same share: of the one that grew first. Beside it
stand rules that look at no log: always grow at a quarter, always start large, always train on."""

from __future__ import annotations

import argparse
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np
from advice_runs import RESULTS, Comparison, comparisons, config_of, constant, judged, trial_of
from payoff_results import Record, read

from growth.errors import CheckpointError
from growth.planner import head_start
from growth.planner.advice import Advice
from growth.planner.advising import advise
from growth.planner.head_start import Carry

BEFORE = {
    "width": Carry(0.0, 0.2, 0.6, 0.25, ""),
    "depth": Carry(0.25, 0.3, 0.6, 0.25, ""),
    "both": Carry(0.0, 0.2, 0.5, 0.3, ""),
}
"""Axis -> what was known of the carry before the runs of ``payoff.jsonl``, where that has changed since."""


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


def scores(header: Record, records: Sequence[Record], shares: Sequence[float], trial: bool = False) -> Iterator[Score]:
    """One for each comparison and share; ``trial``: with the beginning of a growth."""
    setting = header["setting"]
    per_step = setting["batch"] * setting["context"]
    for comparison in comparisons(records):
        small, large = comparison.ways["small", None], comparison.ways["large", None]
        for share in shares:
            score = Score(comparison, share)
            for seed in sorted(small.keys() & large.keys()):
                runs = small[seed], large[seed]
                configs = [config_of(run["small" if run is runs[0] else "large"], setting) for run in runs]
                tried = trial_of(comparison, seed, share * runs[1]["flops"], setting) if trial else {}
                logs = [constant(run, share * runs[1]["flops"], setting["warmup"], per_step) for run in runs]
                try:
                    advice = advise(
                        logs[0],
                        logs[1],
                        small_config=configs[0],
                        large_config=configs[1],
                        context=setting["context"],
                        budget_tokens=runs[1]["tokens"],
                        **tried,
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
    parser.add_argument("--trial", action="store_true", help="with the beginning of a growth")
    parser.add_argument("--now", action="store_true", help="with what is known today")
    args = parser.parse_args()
    if not args.now:
        head_start.KNOWN.update(BEFORE)
    header, records = read(args.file)
    if header is None:
        raise SystemExit(f"{args.file} has no results. Run benchmarks/payoff.py first.")
    found = list(scores(header, records, args.shares, args.trial))
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
