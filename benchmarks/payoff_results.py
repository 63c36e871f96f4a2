"""The result file of `payoff.py` as comparisons: the large model from scratch, the small one trained on, and the grown
ones, at equal FLOPs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from payoff_statistics import Closure, Difference, closure, interpolated, paired, welch

Record = dict[str, Any]
LIMIT = 0.015
"""Nats: the gain over the better reference that is looked for."""
MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
GROUPS = 8
"""Of seeds, which are left out one at a time for an interval; an arm of 16 has two in each."""
AXES = ("width", "depth", "both", "experts")


def read(path: Path) -> tuple[Record | None, list[Record]]:
    """Header and records of a result file; none where there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    first, *records = map(json.loads, lines) if lines else [None]
    return first, records


class Name(NamedTuple):
    """What an arm is called within its comparison."""

    arm: str
    recipe: str
    grown_at: float | None
    wide_factor: float

    def __str__(self) -> str:
        rate = f", rate x{self.wide_factor:g} after" if self.wide_factor != 1 else ""
        if self.arm != "grown":
            names = {"scratch": "large from scratch", "small": "small trained on", "middle": "middle-sized"}
            return names[self.arm] + rate + (" the middle" if rate else "")
        return f"grown at {100 * (self.grown_at or 0):.0f} %, {self.recipe}{rate}"


@dataclass
class Row:
    """An arm: its record of each seed."""

    name: Name
    runs: dict[int, Record] = field(default_factory=dict)

    @property
    def losses(self) -> dict[int, float]:
        """Seed -> loss on the reported half."""
        return {seed: record["report"] for seed, record in self.runs.items()}

    @property
    def loss(self) -> float:
        return fmean(self.losses.values())

    def mean(self, key: str) -> float:
        return fmean(record[key] for record in self.runs.values())

    def without(self, group: int) -> Row:
        """Without the seeds that are this number modulo `GROUPS`."""
        return Row(self.name, {seed: record for seed, record in self.runs.items() if seed % GROUPS != group})

    @property
    def curve(self) -> list[tuple[float, float]]:
        """(FLOPs, mean loss over the seeds on the half that chooses), at the points that all seeds have."""
        curves = [{point[1]: point[2] for point in record["curve"]} for record in self.runs.values()]
        common = sorted(set.intersection(*map(set, curves)))
        return [(flops, fmean(curve[flops] for curve in curves)) for flops in common]

    @property
    def rise(self) -> float | None:
        """From the growth to the next point of the curve; none where the curve has no two such points."""
        after = [loss for flops, loss in self.curve if flops >= self.mean("flops_before")]
        return after[1] - after[0] if len(after) > 1 else None


@dataclass(frozen=True)
class Gain:
    """A grown arm against both references. ``better``: the one of lower mean loss."""

    scratch: Difference
    small: Difference
    better: str

    @property
    def over_better(self) -> Difference:
        return self.scratch if self.better == "scratch" else self.small

    @property
    def beats_both(self) -> bool:
        """Lower than each of the two, and either resolved."""
        return all(difference.resolved and difference.mean < 0 for difference in (self.scratch, self.small))

    @property
    def of_more_than_the_limit(self) -> str:
        """Whether the gain over the better reference is more than `LIMIT`: by its 95 % interval shown, ruled out, or
        open."""
        low, high = self.over_better.interval
        return "shown" if high < -LIMIT else "ruled out" if low > -LIMIT else "open"


@dataclass
class Comparison:
    """The arms of one pair of sizes, horizon and schedule. References at equal tokens are by ``grown_at``."""

    axis: str
    factor: float
    small: str
    large: str
    horizon: float
    schedule: str
    rows: dict[Name, Row] = field(default_factory=dict)
    equal_tokens: dict[tuple[str, float], Row] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.axis} {TIMES}{self.factor:g}, {self.small} → {self.large}"

    def without(self, group: int) -> Comparison:
        """Without the seeds that are this number modulo `GROUPS`."""
        rows = {name: row.without(group) for name, row in self.rows.items()}
        return replace(
            self, rows=rows, equal_tokens={key: row.without(group) for key, row in self.equal_tokens.items()}
        )

    def references(self, arm: str) -> list[Row]:
        """At one rate throughout, and with a lowered one, the lower loss first."""
        return sorted((row for name, row in self.rows.items() if name.arm == arm), key=lambda row: row.loss)

    def reference(self, arm: str) -> Row | None:
        """The one of several rates that is lower on the books that choose."""
        return min(self.references(arm), key=lambda row: row.mean("choose"), default=None)

    @property
    def grown(self) -> list[Row]:
        rows = [row for row in self.rows.values() if row.name.arm == "grown"]
        return sorted(rows, key=lambda row: (row.name.wide_factor != 1, row.name.grown_at, row.loss))

    def gain(self, row: Row) -> Gain | None:
        """Against scratch as independent samples, since neither weights nor their number are shared; against the small
        one by seeds, since both begin with the same trunk."""
        scratch, small = self.reference("scratch"), self.reference("small")
        if scratch is None or small is None:
            return None
        to_scratch, to_small = welch(row.losses, scratch.losses), paired(row.losses, small.losses)
        if to_scratch is None or to_small is None:
            return None
        return Gain(to_scratch, to_small, "scratch" if scratch.loss < small.loss else "small")

    def closure(self, row: Row) -> Closure | None:
        share, start = row.name.grown_at, self.reference("scratch")
        small, scratch = (self.equal_tokens.get((arm, share or 0.0)) for arm in ("small", "scratch"))
        if small is None or scratch is None or start is None:
            return None
        return closure(small.losses, row.losses, scratch.losses, start.losses)


def comparisons(records: Iterable[Record]) -> list[Comparison]:
    """Of all arms but sweeps and trunks, by axis, factor, sizes, schedule and horizon."""
    found: dict[tuple[Any, ...], Comparison] = {}
    for record in records:
        if record["arm"] == "trunk" or record.get("sweep"):
            continue
        key = tuple(record[name] for name in ("axis", "factor", "small", "large", "horizon", "schedule"))
        comparison = found.setdefault(key, Comparison(*key))
        arm, at_equal_tokens = record["arm"].removesuffix(" at equal tokens"), " at equal" in record["arm"]
        name = Name(arm, record["recipe"], None if at_equal_tokens else record["grown_at"], record["wide_factor"])
        if at_equal_tokens:
            row = comparison.equal_tokens.setdefault((arm, record["grown_at"]), Row(name))
        else:
            row = comparison.rows.setdefault(name, Row(name))
        row.runs[record["seed"]] = record
    _share_references(found.values())
    order = sorted(
        found.values(), key=lambda one: (one.factor != 2, one.factor, one.small, one.schedule != "wsd", one.horizon)
    )
    return sorted(order, key=lambda one: AXES.index(one.axis))


def _share_references(found: Iterable[Comparison]) -> None:
    """A model trained without growth is a reference wherever its size is, at the same horizon and schedule."""
    flat: dict[tuple[str, float, str, float], Row] = {}
    for comparison in found:
        for arm, size in (("scratch", comparison.large), ("small", comparison.small)):
            for row in comparison.references(arm):
                key = size, comparison.horizon, comparison.schedule, row.name.wide_factor
                flat.setdefault(key, row)
    for comparison in found:
        for arm, size in (("scratch", comparison.large), ("small", comparison.small)):
            for key, row in flat.items():
                name = row.name._replace(arm=arm)
                if key[:3] == (size, comparison.horizon, comparison.schedule) and name not in comparison.rows:
                    comparison.rows[name] = Row(name, row.runs)


def to_equal_loss(of: Sequence[Comparison], arm: str, row: Row, key: str = "flops") -> float | None:
    """What a reference, at any horizon of the same pair and schedule, takes to reach the loss of a row: FLOPs, or
    another field. None where none is as good or all are better."""
    points = []
    for comparison in of:
        rows = [
            comparison.reference(arm),
            *(found for (name, _), found in comparison.equal_tokens.items() if name == arm),
        ]
        points += [(found.mean(key), found.loss) for found in rows if found is not None]
    return interpolated(points, row.loss)
