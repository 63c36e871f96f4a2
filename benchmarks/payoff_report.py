"""What the runs of `payoff.py` add up to: a table, and a verdict in sentences.

A learning rate is chosen per arm by the mean loss over seeds on the windows that choose, and the
loss on the other windows is reported. Differences are taken seed by seed, since arms of a seed
share their batches. One is called a difference only if 0 lies outside the 95 % interval of its mean
(Student's t); with two or three seeds that takes much. Every sentence is a comparison by itself:
among many arms the best of them is partly luck."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, stdev

GROWN = "grown"
REFERENCES = {"scratch": "the wide model from scratch", "small": "the small model continued"}
EQUAL = ("FLOPs", "tokens")
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""97.5 % quantiles of Student's t for 1 to 10 degrees of freedom; the last serves beyond, where it
is a little too wide."""


@dataclass(frozen=True)
class Run:
    """One training.

    Args:
        arm: its name.
        equal: the comparisons it takes part in: at equal FLOPs, tokens, or both.
        seed, lr: of it.
        small_steps, wide_steps: taken by the small model, and by the wide one.
        tokens, flops: of both phases.
        choosing, reported: loss on either half of what is held out.
        jump: by how much the growth itself changed the reported loss.
        seconds: of training, the small phase included.
    """

    arm: str
    equal: tuple[str, ...]
    seed: int
    lr: float
    small_steps: int
    wide_steps: int
    tokens: int
    flops: int
    choosing: float
    reported: float
    jump: float
    seconds: float


@dataclass(frozen=True)
class Row:
    """An arm in one comparison, at its best learning rate.

    Args:
        arm, equal: which.
        lr: the best.
        edge: whether that is the lowest or highest of the grid.
        runs: at that learning rate, by seed.
    """

    arm: str
    equal: str
    lr: float
    edge: bool
    runs: dict[int, Run]

    @property
    def losses(self) -> list[float]:
        return [run.reported for run in self.runs.values()]

    @property
    def label(self) -> str:
        return self.arm if self.arm in REFERENCES else f"{GROWN} ({self.arm.replace(',', ', ')})"


@dataclass(frozen=True)
class Difference:
    """Of two rows, seed by seed: loss of the reference minus loss of the arm, so that above 0 the
    arm is better."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def interval(self) -> float:
        """Half the width of the 95 % interval of the mean; infinite for one seed, or where a run
        diverged."""
        degrees = len(self.values) - 1
        if not degrees or not all(map(math.isfinite, self.values)):
            return math.inf
        return STUDENT[min(degrees, len(STUDENT)) - 1] * stdev(self.values) / math.sqrt(len(self.values))

    @property
    def seen(self) -> bool:
        return abs(self.mean) > self.interval


def rows(runs: Iterable[Run]) -> list[Row]:
    """One per arm and comparison, the best first, over the seeds that every arm has at every rate.
    A diverged run is infinitely bad."""
    found = []
    runs = whole(runs)
    for equal in EQUAL:
        for arm in dict.fromkeys(run.arm for run in runs if equal in run.equal):
            mine = [run for run in runs if run.arm == arm and equal in run.equal]
            grid = sorted({run.lr for run in mine})
            best = min(grid, key=lambda lr: fmean(_finite(run.choosing) for run in mine if run.lr == lr))
            found.append(
                Row(arm, equal, best, best in (grid[0], grid[-1]), {run.seed: run for run in mine if run.lr == best})
            )
    return sorted(found, key=lambda row: (EQUAL.index(row.equal), fmean(map(_finite, row.losses))))


def whole(runs: Iterable[Run]) -> list[Run]:
    """The runs of seeds that every arm has at every one of its learning rates, so that means
    compare the same seeds."""
    runs = list(runs)
    seeds: dict[tuple[str, tuple[str, ...], float], set[int]] = {}
    for run in runs:
        seeds.setdefault((run.arm, run.equal, run.lr), set()).add(run.seed)
    common = set.intersection(*seeds.values())
    if not common:
        raise SystemExit("no seed was run for every arm at every learning rate. Run one that was.")
    return [run for run in runs if run.seed in common]


def _finite(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf


def difference(row: Row, reference: Row) -> Difference:
    return Difference(tuple(reference.runs[seed].reported - run.reported for seed, run in row.runs.items()))


def report(runs: Iterable[Run]) -> tuple[str, str]:
    """The Markdown table and the verdict."""
    runs = list(runs)
    found = rows(runs)
    return table(found), verdict(found, runs)


def table(found: list[Row]) -> str:
    """One line per row, the best first; an arm that meets others twice by the same runs has one."""
    same: dict[tuple[str, float, str], list[Row]] = {}
    for row in found:
        same.setdefault((row.arm, row.lr, str(row.losses)), []).append(row)
    lines = [
        "| equal | arm | steps, small + wide | tokens | FLOPs | best lr | held-out loss |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for twins in sorted(same.values(), key=lambda twins: fmean(map(_finite, twins[0].losses))):
        row, equal = twins[0], " and ".join(twin.equal for twin in twins)
        run = next(iter(row.runs.values()))
        spread = f" ± {stdev(row.losses):.4f}" if len(row.losses) > 1 and all(map(math.isfinite, row.losses)) else ""
        steps = f"{run.small_steps} + {run.wide_steps}"
        rate = f"{row.lr:g}{' (edge)' if row.edge else ''}"
        lines.append(
            f"| {equal} | {row.label} | {steps} | {run.tokens:.3g} | {run.flops:.3g} | {rate} | "
            f"{fmean(row.losses):.4f}{spread} |"
        )
    return "\n".join(lines)


def verdict(found: list[Row], runs: list[Run]) -> str:
    """For each comparison how many grown arms came out lower or higher, then a sentence each, then
    what to bear in mind."""
    lines = []
    for equal, (reference, name) in itertools.product(EQUAL, REFERENCES.items()):
        at = {row.arm: row for row in found if row.equal == equal}
        grown = [row for row in at.values() if row.arm not in REFERENCES]
        if grown and reference in at:
            gaps = [difference(row, at[reference]) for row in grown]
            lower, higher = (sum(gap.seen and gap.mean * sign > 0 for gap in gaps) for sign in (1, -1))
            rest = f"and {len(grown) - lower - higher} with no difference beyond the spread over seeds"
            rest += " (one seed: nothing can be)" if len(at[reference].runs) == 1 else ""
            lines.append(
                f"* At equal {equal}, against {name}: of {len(grown)} grown arms {lower} ended lower, {higher} "
                f"higher, {rest}."
            )
            lines += [f"  * {_sentence(row.label, gap)}" for row, gap in zip(grown, gaps, strict=True)]
    edges = {
        label: [row.equal for row in found if row.edge and row.label == label]
        for label in sorted({row.label for row in found})
    }
    if named := "; ".join(f"{label} at equal {' and '.join(equals)}" for label, equals in edges.items() if equals):
        lines.append(
            "* The best learning rate lies at the edge of the grid, so that a wider grid might do better, for: "
            f"{named}."
        )
    if any(run.arm not in REFERENCES for run in runs):
        lines.append(f"* The growth itself changed no held-out loss by more than {max(run.jump for run in runs):.1e}.")
    return "\n".join(lines)


def _sentence(label: str, gap: Difference) -> str:
    if not all(map(math.isfinite, gap.values)):
        return f"{label}: a run did not stay finite; no verdict."
    better, sign = ("lower", 1) if gap.mean > 0 else ("higher", -1)
    if len(gap.values) == 1:
        return f"{label}: {better} by {abs(gap.mean):.4f} in one seed; no spread, no verdict."
    agree = sum(value * sign > 0 for value in gap.values)
    size = f"{abs(gap.mean):.4f} ± {gap.interval:.4f}, in {agree} of {len(gap.values)} seeds"
    return (
        f"{label}: {better} by {size}."
        if gap.seen
        else f"{label}: no difference beyond the spread ({better} by {size})."
    )
