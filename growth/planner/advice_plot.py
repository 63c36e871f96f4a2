"""A picture of advice: the loss curves, how sure they are, and the best growth."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from growth.errors import CheckpointError, UnsupportedModelError
from growth.planner.advice_text import named_way

if TYPE_CHECKING:
    from growth.planner.advice import Advice

ENDINGS = (".png", ".svg", ".pdf")
_STEPS = 80


def check_picture(path: str | os.PathLike[str]) -> None:
    """Refuse a picture where matplotlib is missing, or does not write such a file.

    Raises:
        UnsupportedModelError: with the command that installs it, or the endings that it writes.
        CheckpointError: for a folder that does not exist.
    """
    if (ending := Path(path).suffix.lower()) not in ENDINGS:
        raise UnsupportedModelError(f"a picture cannot be written as '{ending}'. Use {', '.join(ENDINGS)}.")
    if not Path(path).absolute().parent.is_dir():
        raise CheckpointError(f"the folder of {path} does not exist. Make it, or name another file.")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UnsupportedModelError(
            "a picture needs matplotlib, which is not installed. Install it: pip install 'transformer-growth[plot]'."
        ) from error


def draw(advice: Advice, path: str | os.PathLike[str]) -> None:
    """Draw advice into a file: loss against what was spent, in tokens of the small model.

    Points are those of the logs; the bands hold 95 % of the drawn curves; a cross is the growth that is expected to
    end lowest, with its interval.

    Args:
        advice: what to draw.
        path: of a picture; its ending says the format (``.png``, ``.svg``, ``.pdf``).

    Raises:
        UnsupportedModelError: if matplotlib is not installed, or does not write such a file.
        CheckpointError: if its folder does not exist.
    """
    check_picture(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    costs = {"small": 1.0, **advice.costs.ratios}
    lowest = [float(log.tokens[0]) * costs[name] for name, log in advice.logs.items()]
    for number, (name, curve) in enumerate(advice.curves.items()):
        colour = f"C{number}"
        end = advice.budget + (advice.free if name == "small" else 0.0)
        spent = np.geomspace(min(*lowest, end / 2), end, _STEPS)
        drawn = np.stack([curve.at(tokens / costs[name]) for tokens in spent])
        low, middle, high = np.quantile(drawn, (0.025, 0.5, 0.975), axis=1)
        guess = "" if name in advice.logs else " (guessed)"
        axes.plot(spent, middle, color=colour, label=f"{name}{guess}")
        axes.fill_between(spent, low, high, color=colour, alpha=0.2, linewidth=0)
        if name in advice.logs:
            log = advice.logs[name]
            axes.plot(log.tokens * costs[name], log.loss, ".", color=colour, markersize=4)
    if (trial := advice.trial) is not None:
        ratio, at = next(iter(advice.costs.ratios.values())), advice.grown_at
        after = trial.tokens > at
        spent = at + ratio * (trial.tokens[after] - at)
        axes.plot(spent, trial.loss[after], ".", color="black", markersize=4, label="trial growth")
    grown = [one for one in advice.candidates if one.kind == "grow"]
    best = min(grown, key=lambda one: one.loss.middle)
    spread = [[best.loss.middle - best.loss.low], [best.loss.high - best.loss.middle]]
    called = named_way(best, len(advice.costs.ratios) > 1, advice.free > 0)
    end = advice.budget + advice.free
    axes.errorbar([end], [best.loss.middle], yerr=spread, fmt="x", color="black", capsize=4, label=called)
    axes.set_xscale("log")
    axes.set_xlabel("spent, in tokens of the small model")
    axes.set_ylabel("loss, nats")
    axes.legend()
    axes.set_title(f"{advice.verdict}: loss with 95 % bands", fontsize="medium")
    figure.savefig(os.fspath(path), dpi=150)
