"""Text, settings and results for the tests of `benchmarks/payoff.py`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import growth

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from payoff_plan import Arm, Pair, Setting, Size
from payoff_presets import sweep
from payoff_text import BOOKS

TINY = Setting(unit=Size(24, 1), steps=12, context=16, batch=2, warmup=2, choose=2, report=3, compiled=False)
WIDER = Pair("width", 2.0, Size(12, 1), Size(24, 1))
DEEPER = Pair("depth", 2.0, Size(12, 1), Size(12, 2))


def tiny_plan() -> list[Arm]:
    """Two seeds; one growth in width, one in depth, a cosine, one with other rates after the growth."""
    small = Arm(WIDER, "small", "small", seeds=(0, 1), also=((DEEPER, "small"),))
    grown = Arm(WIDER, "grown", "small", "noise:1", 0.5, seeds=(0, 1))
    rates = (0.71, 0.71, 1.41, 1.41)
    return [
        sweep(small, "small", (0.004, 0.008)),
        small,
        grown,
        Arm(WIDER, "scratch", "small", seeds=(0, 1)),
        Arm(DEEPER, "grown", "small", "exact layers", 0.25, seeds=(0, 1)),
        Arm(WIDER, "scratch at equal tokens", "small", grown_at=0.5, seeds=(0, 1)),
        Arm(WIDER, "grown", "small", "noise:1", 0.5, schedule="cosine", seeds=(0, 1), raised=1.41),
        Arm(WIDER, "grown", "small", "none, fresh moments, new x1.3", 0.5, seeds=(0, 1)),
        Arm(WIDER, "grown", "small", "noise:1", 0.5, seeds=(0, 1) * 2, wide_factors=rates, stacked=(0, 1)),
    ]


def write_texts(folder: Path) -> Path:
    """austen.txt, kjv.txt and jargon.txt: how the books of `payoff_text.BOOKS` begin, with some text of Austen's
    behind each beginning. Books that follow one another do so here."""
    excerpt = (Path(growth.__file__).parent / "assets" / "excerpt.txt").read_text(encoding="utf-8")
    folder.mkdir()
    for number, (author, halves) in enumerate(BOOKS.items()):
        next_of = {begin: end for books in halves.values() for begin, end in books}
        marks = []
        for mark in [begin for begin in next_of if begin not in next_of.values()]:
            marks.append(mark)
            while marks[-1] in next_of:
                marks.append(next_of[marks[-1]])
        pieces = [excerpt[place : place + 700] for place in range(20_000 * number, 20_000 * (number + 1), 700)]
        parts = [mark + piece for mark, piece in zip(["", *marks], pieces, strict=False)]
        (folder / f"{author}.txt").write_text("".join(parts), encoding="utf-8")
    return folder


def record(arm: str, seed: int, loss: float, **changes: Any) -> dict[str, Any]:
    """One line of a result file, made up."""
    grown = {"recipe": "noise:1", "symmetry": "noise:1", "grown_at": 0.5} if arm == "grown" else {}
    made = {
        **{"job": f"{arm}, {seed}", "axis": "width", "factor": 2.0, "arm": arm, "recipe": "", "symmetry": ""},
        **{"small": "24x2", "large": "48x2", "size": "24x2", "horizon": 1.0, "grown_at": None, "schedule": "wsd"},
        **{"seed": seed, "lr": 0.004, "wide_factor": 1.0, "steps": 100, "tokens": 51200, "flops": 10**9},
        **{"flops_before": 10**8, "cpu_seconds": 1.0, "choose": loss, "report": loss, "jump": 0.0},
        "curve": [[51200, 10**9, loss]],
    }
    return made | grown | changes


def made_up(arm: str, losses: list[float], **changes: Any) -> list[dict[str, Any]]:
    return [record(arm, seed, loss, **changes) for seed, loss in enumerate(losses)]
