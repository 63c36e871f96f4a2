"""`Advice`: what `growth.training.advise` returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from growth.planner.budgets import Costs
from growth.planner.decision import Interval, is_worse
from growth.planner.loss_curves import LossCurve, Numbers
from growth.planner.training_logs import TrainingLog
from growth.text import Part, Shown

SMALL = "small"
"""The name of the small model."""


@dataclass(frozen=True)
class Candidate:
    """One way to spend the budget, and what it is expected to end with.

    Args:
        kind: ``small`` (train it on), ``large`` (start with it) or ``grow``.
        model: the name of the large model; empty for ``small``.
        share: of the tokens of the run before the growth; of those left, where the small model is free. None where
            nothing grows.
        small_tokens, large_tokens: that the two models see.
        loss: at the end, in nats.
        advantage: how much lower it ends than the better way without growth, in nats.
        behind: how much higher it ends than the candidate with the lowest expected loss, in nats; 0 for that one.
        best: the probability that no other candidate ends lower.
        gap_closure, break_even: of a growth: (small - grown) / (small - large) at equal tokens, and what it must
            exceed for growing to end lower than starting large at equal FLOPs. None where it is not known for sure
            that the large model is the better one at those tokens.
        drawn: the loss at the end on each draw; all candidates have the same draws, so that differences can be taken.
    """

    kind: str
    model: str
    share: float | None
    small_tokens: float
    large_tokens: float
    loss: Interval
    advantage: Interval
    behind: Interval
    best: float
    gap_closure: Interval | None
    break_even: Interval | None
    drawn: Numbers = field(repr=False, compare=False)


@dataclass(frozen=True, repr=False)
class Advice(Shown):
    """What `advise` says. Print it, or read its parts.

    Args:
        verdict: ``grow``, ``start large``, ``train on``, ``no difference`` or ``cannot tell``.
        recommendation: the same in a sentence, with how sure it is, and what would tell more.
        candidates: the ways to spend the budget.
        curves: name of a model -> the posterior of its loss curve.
        logs: name of a model -> the points it was fitted to.
        costs: what a token of each large model costs, and what it has more of.
        budget: in tokens of the small model.
        free: tokens that the small model has seen and that are not counted.
        trial, grown_at: the points of a trial growth, and after how many tokens it grew; None and 0 where there is
        none.
        notes: what was assumed or left out.
    """

    verdict: str
    recommendation: str
    candidates: tuple[Candidate, ...]
    curves: Mapping[str, LossCurve]
    logs: Mapping[str, TrainingLog]
    costs: Costs
    budget: float
    free: float
    trial: TrainingLog | None
    grown_at: float
    notes: tuple[str, ...]

    @property
    def ruled_out(self) -> tuple[Candidate, ...]:
        """The candidates that end higher than the one with the lowest expected loss for sure."""
        return tuple(one for one in self.candidates if is_worse(one.behind))

    def _parts(self) -> Sequence[Part]:
        from growth.planner.advice_text import advice_parts

        return advice_parts(self)

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values, the curves by their medians and 95 % intervals."""
        from growth.planner.advice_text import as_json

        return as_json(self)

    def plot(self, path: Any) -> None:
        """Draw the curves, their 95 % bands and the best growth into a picture. Raises UnsupportedModelError without
        matplotlib."""
        from growth.planner.advice_plot import draw

        draw(self, path)

    def __repr__(self) -> str:
        return f"Advice({self.verdict!r}, {self.recommendation!r})"
