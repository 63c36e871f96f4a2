"""How advice reads: a recommendation, tables, and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import NoneType
from typing import TYPE_CHECKING, Any

from growth.planner.alternatives import DECAY, Alternative
from growth.planner.budgets import Costs
from growth.planner.decision import PRACTICAL, Interval, Rival
from growth.planner.head_start import KNOWN
from growth.planner.loss_curves import LossCurve
from growth.planner.training_logs import TrainingLog
from growth.text import Part, Table, wrapped

if TYPE_CHECKING:
    from growth.planner.advice import Advice, Candidate

_SMALL = "small"
_AXES = {"width": ", in width", "depth": ", in depth", "both": ", in width and depth", "experts": ", in experts"}
_FURTHER = 4.0
"""How many times as long a log is proposed where a longer one would tell most."""


def counted(tokens: float) -> str:
    """A number of tokens.

    Example:
        >>> counted(1_024_000), counted(512), counted(3.2e12)
        ('1.02M', '512', '3.2T')
    """
    for unit in ("", "k", "M", "B"):
        if tokens < 999.5:
            return f"{tokens:.3g}{unit}"
        tokens /= 1000
    return f"{tokens:.3g}T"


def named_way(way: Alternative | Candidate, several: bool, free: bool) -> str:
    """What a candidate does, in a few words.

    Args:
        way: the candidate.
        several: whether there are several large models, so that its name is said.
        free: whether the small model is there already.
    """
    into = f" into {way.model}" if several else ""
    if way.share is None:
        return (
            "train the small model on"
            if way.kind == "small"
            else f"start with {way.model if several else 'the large model'}"
        )
    if free:
        return f"grow{into} now" if not way.share else f"grow{into} after {100 * way.share:.0f} % of what is left"
    return f"grow{into} at {100 * way.share:.0f} %"


def _to(interval: Interval) -> str:
    return f"{interval.low:+.3f} to {interval.high:+.3f}"


def recommended(
    verdict: str,
    best: Alternative,
    rivals: Sequence[Rival],
    as_good: Sequence[Alternative],
    telling: str,
    curves: Mapping[str, LossCurve],
    costs: Costs,
    budget: float,
    free: float,
) -> str:
    """The recommendation in sentences.

    Args:
        verdict: as in `growth.planner.advice.Advice`.
        best, rivals: from `growth.planner.decision.compared`.
        as_good: other times to grow into the same model that are not worse for sure.
        telling: what would settle most, by name; empty where nothing needs to.
        curves: name -> curve.
        costs: of the models.
        budget, free: in tokens of the small model.
    """
    ratios = costs.ratios

    def said(way: Alternative) -> str:
        return named_way(way, len(ratios) > 1, free > 0)

    worse = [rival for rival in rivals if rival.verdict == "worse"]
    beaten = "; ".join(
        f"to {said(rival.alternative)} ends {rival.behind.middle:.3f} nats higher (95 %: {_to(rival.behind)})"
        for rival in worse
    )
    if verdict in ("grow", "start large", "train on"):
        also = " or ".join(said(way) for way in as_good)
        axis = _AXES.get(costs.axes[best.model], "") if best.kind == "grow" else ""
        return f"{said(best)}{axis}: {beaten}.{f' To {also} may do as well.' if also else ''}"
    if verdict == "no difference":
        alike = " and to ".join(said(rival.alternative) for rival in rivals if rival.verdict == "alike")
        more = f"; {beaten}" if beaten else ""
        return f"no difference: to {said(best)} and to {alike} end within {PRACTICAL} nats of each other{more}."
    open_ = [rival for rival in rivals if rival.verdict != "worse"]
    doubts = "; ".join(f"to {said(rival.alternative)} may end {_doubt(rival.behind)}" for rival in open_)
    model = next(way.model for way in (best, *(rival.alternative for rival in open_)) if way.model)
    out = f" Ruled out: {beaten}." if beaten else ""
    return (
        f"cannot tell: to {said(best)} is expected to end lowest, but {doubts} (95 %).{out} What would tell most: "
        f"{_wanted(telling, model, curves, ratios, budget, free)}."
    )


def _doubt(behind: Interval) -> str:
    if behind.low > 0:
        return f"as little as {behind.low:.3f} nats higher"
    return f"{-behind.low:.3f} nats lower or {behind.high:.3f} higher"


def _wanted(
    telling: str, model: str, curves: Mapping[str, LossCurve], ratios: Mapping[str, float], budget: float, free: float
) -> str:
    """The run that would tell most; ``model`` is the large one that growing or starting with is about."""
    if telling == "carry":
        tokens, ratio = max(curves[_SMALL].last, free), ratios[model]
        same = tokens if free else tokens * (1 + 1 / ratio)
        return (
            f"a trial growth of the small model after {counted(tokens)} tokens, trained for as many again: whether it "
            f"is then below the large model after {counted(same)} tokens, which costs the same; or give its log "
            "(--grown-log)"
        )
    most = free + budget if telling == _SMALL else budget / ratios[telling]
    curve = curves[telling]
    tokens = most / _FURTHER if not curve.points else min(_FURTHER * curve.last, most)
    called = "the small model" if telling == _SMALL else "the large model" if len(ratios) == 1 else telling
    return f"a run of {called} of {counted(tokens)} tokens at a constant learning rate"


def notes_of(
    logs: Mapping[str, TrainingLog],
    costs: Costs,
    budget: float,
    free: float,
    trial: TrainingLog | None,
    grown_at: float,
) -> tuple[str, ...]:
    """What was assumed and what was left out."""
    notes = [
        f"{name} is GUESSED from the small model's curve and a scaling law: there is no log of it"
        for name in costs.ratios
        if name not in logs
    ]
    for name, log in logs.items():
        notes += [f"{name}: {note}" for note in log.notes]
        further = (free + budget if name == _SMALL else budget / costs.ratios[name]) / log.tokens[-1]
        if further > 10:
            notes.append(
                f"{name}: the budget is {further:.0f} times as long as the log, and no curve is sure so far out"
            )
    for name, axis in costs.axes.items():
        known = {"unknown": "what grows is not said", "both": "width and depth grow"}.get(axis, f"{axis} grows")
        called = "" if len(costs.axes) == 1 else f"{name}: "
        length = costs.tokens_per_weight(name, budget)
        run = "" if length is None else f"; {length:.3g} tokens for each weight of the large model"
        notes.append(f"{called}{known}. Known of such growth: {KNOWN[axis].source}{run}")
    if trial is not None:
        notes += [f"trial growth: {note}" for note in trial.notes]
        notes.append(
            f"a trial growth after {counted(grown_at)} tokens, seen to {counted(trial.tokens[-1])}, says more of what "
            "growth carries over than that"
        )
    if costs.context is not None:
        notes.append(f"costs are counted at {costs.context} tokens in a sequence (--context)")
    if free:
        notes.append(f"the {counted(free)} tokens that the small model has seen are not counted")
    notes.append(
        "losses are at a constant learning rate. A decay at the end, at the same cost for all, is taken to lower all "
        f"alike, but by {100 * DECAY:.1f} % of the loss more for a model that sees 2.7 times the tokens in it. Not in "
        "the intervals: seeds, and learning rates that do not suit a model"
    )
    return tuple(notes)


def advice_parts(advice: Advice) -> list[Part]:
    """What `growth.planner.advice.Advice` prints."""
    several = len(advice.costs.ratios) > 1
    unit = "" if advice.costs.flops is None else f", {advice.budget * advice.costs.flops:.3g} FLOPs"
    first = next(iter(advice.costs.ratios))
    ratios = ", ".join(f"{name} {ratio:.3g}" for name, ratio in advice.costs.ratios.items())
    spent = (
        f"budget: {counted(advice.budget / advice.costs.ratios[first])} tokens of {first} or {counted(advice.budget)} "
        f"of small{unit}\ncost of a token, in tokens of small: {ratios}"
    )
    curves = [
        (
            name,
            curve.points or "none",
            counted(curve.last) if curve.points else "-",
            *(_short(Interval.of(drawn)) for drawn in (curve.floor, curve.excess, curve.exponent)),
            f"{curve.noise:.4f}" if curve.points else "-",
        )
        for name, curve in advice.curves.items()
    ]
    rows = [
        (
            named_way(one, several, advice.free > 0),
            counted(one.small_tokens) if one.small_tokens else "-",
            counted(one.large_tokens) if one.large_tokens else "-",
            f"{one.loss.middle:.3f} ({one.loss.low:.3f} to {one.loss.high:.3f})",
            f"{one.behind.middle:.3f} ({_to(one.behind)})" if one.behind.high > one.behind.low else "lowest",
            *(
                "" if one.kind != "grow" else "unknown" if known is None else _short(known)
                for known in (one.gap_closure, one.break_even)
            ),
            f"{100 * one.best:.0f} %",
        )
        for one in advice.candidates
    ]
    header = ("candidate", "small sees", "large sees", "loss", "behind", "gap closure", "break-even", "best")
    return [
        spent,
        Table(
            ("curve", "points", "to", "floor", "excess there", "exponent", "noise"), curves, right=(1, 2, 3, 4, 5, 6)
        ),
        Table(header, rows, right=(1, 2, 3, 4, 5, 6, 7)),
        _COLUMNS,
        "\n".join(wrapped(f"* {note}", indent="  ") for note in advice.notes),
        wrapped(advice.recommendation),
    ]


_COLUMNS = """loss: at the end, in nats, with its 95 % interval, as all in brackets
behind: how much higher it ends than the candidate that is expected to end lowest
gap closure: (small - grown) / (small - large) at equal tokens; above the break-even, growing ends lower
than starting large at equal FLOPs; unknown where the large model may be no better at those tokens
best: how likely no other candidate ends lower"""


def _short(interval: Interval) -> str:
    return f"{interval.middle:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def as_json(advice: Advice) -> dict[str, Any]:
    """`growth.planner.advice.Advice` as JSON values."""
    return {
        "verdict": advice.verdict,
        "recommendation": advice.recommendation,
        "budget": {
            "small_tokens": advice.budget,
            "flops": None if advice.costs.flops is None else advice.budget * advice.costs.flops,
            "free_small_tokens": advice.free,
        },
        "costs": asdict(advice.costs),
        "curves": {
            name: {
                "points": curve.points,
                "last_tokens": curve.last,
                "noise": curve.noise,
                **{part: _plain(Interval.of(getattr(curve, part))) for part in ("floor", "excess", "exponent")},
            }
            for name, curve in advice.curves.items()
        },
        "candidates": [
            {
                **{name: value for name, value in vars(one).items() if isinstance(value, (str, float, int, NoneType))},
                **{name: _plain(value) for name, value in vars(one).items() if isinstance(value, Interval)},
            }
            for one in advice.candidates
        ],
        "notes": list(advice.notes),
    }


def _plain(interval: Interval) -> dict[str, float | None]:
    """An interval as JSON, which knows no infinity: None."""
    return {name: value if math.isfinite(value) else None for name, value in asdict(interval).items()}
