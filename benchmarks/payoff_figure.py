"""docs/payoff.svg: loss against FLOPs of the small model, the large one from scratch and the grown one, from the
result file of `payoff.py`. Needs matplotlib: pip install 'transformer-growth[plot]'.

    python benchmarks/payoff_figure.py [FILE] [PICTURE]"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import matplotlib
from payoff_results import Comparison, Name, Record, Row, comparisons, read
from payoff_statistics import student

matplotlib.use("svg")
from matplotlib import pyplot

COLOURS = {"small": "#8a8a8a", "scratch": "#1f5fa8", "grown": "#c8501e"}
USUAL = ("noise:2", "exact layers, stacked", "noise:1", "exact layers")
LABELS = {"small": "small, trained on", "scratch": "large, from scratch", "grown": "grown"}


def draw(records: Sequence[Record], picture: Path) -> None:
    """One panel for each axis at factor 2, of the pair of sizes that was run at the most horizons; curves are means
    over seeds, on the held-out books that choose."""
    pairs: dict[str, list[Comparison]] = {}
    for comparison in comparisons(records):
        if comparison.schedule == "wsd" and comparison.factor == 2 and comparison.axis in ("width", "depth"):
            pairs.setdefault(comparison.title, []).append(comparison)
    shown: dict[str, list[Comparison]] = {}
    for axis in ("width", "depth"):
        own = {title: pair for title, pair in pairs.items() if pair[0].axis == axis and _recipe(pair)}
        if own:
            title = max(own, key=lambda title: len(own[title]))
            shown[title] = own[title]
    if not shown:
        return
    style = {"svg.fonttype": "none", "svg.hashsalt": "payoff", "font.size": 9, "font.family": "sans-serif"}
    with pyplot.rc_context(style):
        figure, panels = pyplot.subplots(1, len(shown), figsize=(4.4 * len(shown), 3.2), squeeze=False)
        for panel, (title, pair) in zip(panels[0], shown.items(), strict=True):
            _panel(panel, title, pair)
        figure.tight_layout()
        figure.savefig(picture, format="svg", metadata={"Date": None})
        pyplot.close(figure)


def _recipe(pair: Sequence[Comparison]) -> str:
    """Of the recipes that are growth's own without any option, or were its default, the one that was run at the most
    horizons, at half of the steps; of several, the first. The losses have no say."""
    count = {
        recipe: sum(Name("grown", recipe, 0.5, 1.0) in comparison.rows for comparison in pair) for recipe in USUAL
    }
    return max(count, key=count.__getitem__) if any(count.values()) else ""


def _row(comparison: Comparison, arm: str, recipe: str) -> Row | None:
    if arm != "grown":
        return comparison.reference(arm)
    return comparison.rows.get(Name("grown", recipe, 0.5, 1.0))


def _panel(panel: Any, title: str, pair: Sequence[Comparison]) -> None:
    recipe = _recipe(pair)
    lowest = min(row.loss for comparison in pair for row in comparison.rows.values())
    for arm, colour in COLOURS.items():
        rows = [row for comparison in pair if (row := _row(comparison, arm, recipe)) is not None]
        for row in rows:
            label = LABELS[arm] + (f" ({recipe})" if arm == "grown" else "")
            last = {"alpha": 1.0, "label": label} if row is rows[-1] else {"alpha": 0.35}
            panel.plot(*zip(*row.curve, strict=True), color=colour, linewidth=1.2, **last)
            ends = [record["choose"] for record in row.runs.values()]
            half = student(len(ends) - 1) * stdev(ends) / len(ends) ** 0.5 if len(ends) > 1 else 0.0
            panel.errorbar(row.mean("flops"), fmean(ends), yerr=half, fmt="o", color=colour, markersize=3, capsize=2)
    panel.set_xscale("log")
    panel.set_ylim(lowest - 0.15, lowest + 0.9)
    panel.set_title(title, fontsize=9)
    panel.set_xlabel("FLOPs, the small phase counted")
    panel.set_ylabel("held-out loss, nats per byte")
    panel.legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    here = Path(__file__).parent
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else here / "payoff.jsonl"
    draw(read(source)[1], Path(sys.argv[2]) if len(sys.argv) > 2 else here.parent / "docs" / "payoff.svg")
