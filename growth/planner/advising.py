"""`advise`: whether to grow, when, and into what, from short logs of the models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from growth.arguments import check_flag
from growth.errors import IllegalGrowthError
from growth.plan.choices import Like
from growth.planner.advice import SMALL, Advice, Candidate
from growth.planner.advice_text import counted, notes_of, recommended
from growth.planner.alternatives import Alternative, Large, alternatives
from growth.planner.budgets import GROWN, Costs, budget_of, costs_of, named, trial_at
from growth.planner.curve_pairs import drawn_together, guessed, with_common_drift
from growth.planner.decision import Interval, Rival, chances, compared, is_worse, most_telling, over_references
from growth.planner.head_start import draw_carry
from growth.planner.loss_curves import DRAWS, LossCurve, Numbers, fit
from growth.planner.training_logs import SETTLED, Log, TrainingLog, read_logs
from growth.planner.trial import open_carry, tried


def advise(
    small_log: Log,
    large_log: Log | Mapping[str, Log] | None = None,
    *,
    grown_log: Log | None = None,
    grown_at: float | None = None,
    budget_tokens: float | None = None,
    budget_flops: float | None = None,
    cost_ratio: float | Mapping[str, float] | None = None,
    small_config: Like | None = None,
    large_config: Any = None,
    axis: str | None = None,
    small_is_free: bool = False,
    tokens_per_step: float | None = None,
    context: int | None = None,
) -> Advice:
    """Whether to grow a small model into a large one, to start with the large one, or to train the small one on, for a
    given budget; and how sure that is.

    The loss curve of each model is fitted to its log as a power law of the tokens, at a constant learning rate, with
    its whole posterior (`growth.planner.loss_curves.fit`). Without a log of the large model its curve is guessed from
    a scaling law (`growth.planner.curve_pairs.guessed`), and the answer is then mostly "cannot tell". What growth
    carries over is what was measured and published so far (`growth.planner.head_start`). A decay of the learning rate
    at the end is taken to take off all candidates about as much (`growth.planner.alternatives.DECAY`). The candidates
    are compared on 4000 draws of all of this; where the 95 % interval of a difference holds 0, the answer is "cannot
    tell".

    Not in the intervals: that runs differ by their seeds, and learning rates that do not suit a model.

    Args:
        small_log: of the small model: a ``trainer_state.json``, the folder of a `transformers.Trainer` run, a CSV file
            with columns tokens and loss (and learning_rate, if it was not constant), a dictionary of such columns, or
            pairs of tokens and loss.
        large_log: of the large model, trained from scratch on the same text; or name -> log of several.
        grown_log, grown_at: of a trial growth of the small model to the (one) large one, and after how many tokens of
            the small model it grew. Its tokens count from the small model's start, as Trainer counts them after
            ``grow widen --optimizer``; what the log holds from before the growth is left out.
        budget_tokens: what there is to spend: as many tokens of the large model (of the first one) as it pays
            for.
        budget_flops: the same in FLOPs, which needs configs.
        cost_ratio: of a token of the large model over one of the small; or name -> ratio. Not needed with configs.
        small_config, large_config: folders, hub ids, ``config.json`` or configs; of several large models name ->
            config. The cost of a token follows from them, and what grows.
        axis: with ``cost_ratio``: what the large model has more of: ``width``, ``depth``, ``both`` or ``experts``.
        small_is_free: the small model is there, and what its training has cost is not counted.
        tokens_per_step: where a log counts steps only.
        context: with configs: tokens of a sequence, for the cost; by default 2048, or what the model takes if less.

    Returns:
        The advice: print it, or call ``plot("advice.png")``.

    Raises:
        CheckpointError: for a log that cannot be used.
        IllegalGrowthError: for arguments that contradict each other, or do not say the budget or the costs.
        UnsupportedModelError: for a config whose cost is not known.

    Example:
        >>> advice = advise("small/checkpoint-2000", "large.csv", cost_ratio=3.25, budget_tokens=2e9)
        >>> print(advice.verdict, advice.recommendation)
    """
    check_flag("small_is_free", small_is_free)
    names, large_logs = named(large_log, large_config, cost_ratio)
    costs = costs_of(names, cost_ratio, small_config, large_config, axis, context)
    budget = budget_of(budget_tokens, budget_flops, costs.ratios[names[0]], costs.flops)
    at = trial_at(names, grown_log, grown_at)
    trial: dict[str, Log] = {} if grown_log is None else {GROWN: grown_log}
    logs = read_logs({SMALL: small_log, **large_logs, **trial}, tokens_per_step)
    grown = logs.pop(GROWN, None)
    random = np.random.default_rng(0)
    curves = _curves(logs, costs, random)
    free = logs[SMALL].seen if small_is_free else 0.0
    _check_budget(logs, costs, budget, free)
    larges = []
    for name in names:
        if grown is None:
            carry = draw_carry(costs.axes[name], costs.tokens_per_weight(name, budget), DRAWS, random)
        else:
            carry = open_carry(costs.axes[name], random)
        larges.append(Large(name, curves[name], carry, costs.ratios[name]))
    if grown is not None:
        curves[SMALL], larges[0] = tried(curves[SMALL], larges[0], grown, at, random)
        curves[names[0]] = larges[0].curve
    ways = alternatives(curves[SMALL], larges, budget, free, random)
    best, rivals = compared(ways)
    verdict = _verdict(best, rivals)
    telling = _telling(best, rivals, curves[SMALL], larges, budget, free) if verdict == "cannot tell" else ""
    references = [way for way in ways if way.kind != "grow"]
    candidates = [_candidate(way, references, best, chance) for way, chance in zip(ways, chances(ways), strict=True)]
    sentence = recommended(verdict, best, rivals, _as_good(best, ways), telling, curves, costs, budget, free)
    notes = notes_of(logs, costs, budget, free, grown, at)
    return Advice(verdict, sentence, tuple(candidates), curves, logs, costs, budget, free, grown, at, notes)


def _check_budget(logs: Mapping[str, TrainingLog], costs: Costs, budget: float, free: float) -> None:
    """Refuse a budget that ends before the first point of a log: its curve says nothing of that."""
    for name, log in logs.items():
        pays_for = free + budget if name == SMALL else budget / costs.ratios[name]
        if pays_for < log.tokens[0]:
            raise IllegalGrowthError(
                f"the budget pays for {counted(pays_for)} tokens of the {name} model, and its curve begins at "
                f"{counted(log.tokens[0])}: warm-up and the first {SETTLED:.0%} of a log are left out. Give a larger "
                "budget, or a log that begins or ends earlier."
            )


def _curves(logs: Mapping[str, TrainingLog], costs: Costs, random: np.random.Generator) -> dict[str, LossCurve]:
    """The curves of all models, drawn together: fitted where there is a log, guessed where there is none."""
    fitted = [fit(log, seed) for seed, log in enumerate(logs.values())]
    curves = dict(zip(logs, drawn_together(fitted, random), strict=True))
    guesses = [name for name in costs.ratios if name not in curves]
    for name in guesses:
        curves[name] = guessed(curves[SMALL], costs.ratios[name], random)
    return dict(zip(curves, with_common_drift(list(curves.values()), random), strict=True)) if guesses else curves


def _telling(
    best: Alternative, rivals: Sequence[Rival], small: LossCurve, larges: Sequence[Large], budget: float, free: float
) -> str:
    """What, if it were known, would settle most: the curve of a model, by its name, or ``carry``."""
    rival = next(one for one in rivals if one.verdict == "unknown").alternative

    def spread(known: str) -> float:
        """The standard deviation of the difference that decides, with one thing known."""
        held = small.typical(free + budget) if known == SMALL else small
        others = []
        for one in larges:
            curve = one.curve.typical(budget / one.cost) if known == one.name else one.curve
            carry = np.full(DRAWS, np.median(one.carry)) if known == "carry" else one.carry
            others.append(Large(one.name, curve, carry, one.cost))
        again = alternatives(held, others, budget, free, np.random.default_rng(1))
        pair = [next(one for one in again if _same(one, way)) for way in (best, rival)]
        return float(np.std(pair[0].loss - pair[1].loss))

    involved = {way.model for way in (best, rival)} - {""}
    sources = [SMALL, *(one.name for one in larges if one.name in involved)]
    return most_telling(spread, [*sources, "carry"] if "grow" in (best.kind, rival.kind) else sources)


def _same(one: Alternative, other: Alternative) -> bool:
    return (one.kind, one.model, one.share) == (other.kind, other.model, other.share)


def _verdict(best: Alternative, rivals: Sequence[Rival]) -> str:
    found = {rival.verdict for rival in rivals}
    if "unknown" in found:
        return "cannot tell"
    if "alike" in found:
        return "no difference"
    return {"small": "train on", "large": "start large", "grow": "grow"}[best.kind]


def _as_good(best: Alternative, ways: Sequence[Alternative]) -> list[Alternative]:
    """The other times to grow into the same model that do not end higher for sure."""
    others = [way for way in ways if way is not best and (way.kind, way.model) == (best.kind, best.model)]
    return [way for way in others if not is_worse(Interval.of(way.loss - best.loss))]


def _candidate(way: Alternative, references: Sequence[Alternative], best: Alternative, chance: float) -> Candidate:
    return Candidate(
        *(way.kind, way.model, way.share, way.small_tokens, way.large_tokens),
        loss=Interval.of(way.loss),
        advantage=over_references(way, references),
        behind=Interval.of(way.loss - best.loss),
        best=chance,
        gap_closure=_known(way.gap_closure),
        break_even=_known(way.break_even),
        drawn=way.loss,
    )


def _known(drawn: Numbers | None) -> Interval | None:
    """An interval, or None where too many draws have no such number for one of 95 %."""
    return None if drawn is None or np.isnan(drawn).mean() > 0.025 else Interval.of(drawn[~np.isnan(drawn)])
