"""The sentences of `payoff_report.py`. Each says what the intervals of the result file say, and no more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from payoff_presets import PRESETS
from payoff_results import GROUPS, LIMIT, MINUS, TIMES, Comparison, Gain, Name, Record, Row, to_equal_loss
from payoff_statistics import Difference, jackknife, welch

SEEDS = 8
"""Arms of fewer are in the tables alone."""
USUAL = (
    "noise:2",
    "exact layers, stacked",
    "noise:2, exact layers, stacked",
    "noise:1, more experts",
    "noise:1",
    "exact layers",
)
"""Recipes of growth's own, its default first; without a say of the losses."""
REFERENCE = {"scratch": "the large model from scratch", "small": "the small one trained on"}


def number(value: float, digits: int = 4) -> str:
    return f"{value:+.{digits}f}".replace("-", MINUS)


def measured(difference: Difference) -> str:
    return f"{number(difference.mean)} ± {difference.half:.4f}"


def judged(comparison: Sequence[Comparison]) -> list[tuple[Comparison, Row, Gain]]:
    """The grown arms that have both references and enough seeds."""
    found = []
    for one in comparison:
        for row in one.grown:
            if len(row.runs) >= SEEDS and (gain := one.gain(row)):
                found.append((one, row, gain))
    return found


def against(difference: Difference, reference: str) -> str:
    """One comparison in words; "lower" and "higher" only where the interval excludes 0."""
    said = f"{'lower' if difference.mean < 0 else 'higher'}, resolved" if difference.resolved else "not resolved"
    return f"{measured(difference)} against {reference} ({said})"


def place(comparison: Comparison) -> str:
    schedule = "" if comparison.schedule == "wsd" else f", {comparison.schedule}"
    return f"{comparison.title}, horizon {comparison.horizon:g}{schedule}"


def counted(every: Sequence[Comparison]) -> str:
    """The central question: is there a gain of more than the limit over the better reference?"""
    found = judged(every)
    kinds = [gain.of_more_than_the_limit for _, _, gain in found]
    shown, ruled_out, left = (kinds.count(kind) for kind in ("shown", "ruled out", "open"))
    beats = [one.axis for one, _, gain in found if gain.beats_both]
    if not found:
        return "* No grown arm has both references yet."
    axes = [one.axis for one, _, _ in found]
    by_axis = ", ".join(f"{axis} {beats.count(axis)} of {axes.count(axis)}" for axis in dict.fromkeys(axes))
    to_scratch, to_small = ([getattr(gain, name) for _, _, gain in found] for name in ("scratch", "small"))
    return (
        f"* **From nothing, {len(beats)} of {len(found)} grown arms beat both references** ({by_axis}): the large "
        "model from scratch and the small one trained on, at equal FLOPs, the small phase counted. At 95 % "
        f"({SEEDS} seeds or more) {_lower_and_higher(to_scratch)} than scratch, {_lower_and_higher(to_small)} than "
        f"the small one. A gain of more than {LIMIT:g} nats per byte over the better reference is shown by {shown} of "
        f"the arms, ruled out for {ruled_out} and left open by {left}."
    )


def _lower_and_higher(differences: Sequence[Difference]) -> str:
    resolved = [difference.mean for difference in differences if difference.resolved]
    return f"{sum(mean < 0 for mean in resolved)} ended lower and {sum(mean > 0 for mean in resolved)} higher"


def listed(entries: Iterable[tuple[Comparison, Row, Gain]]) -> list[str]:
    return [
        f"  * {place(comparison)}, {row.name}: {against(gain.over_better, REFERENCE[gain.better])}"
        for comparison, row, gain in entries
    ]


def lowest(comparison: Comparison) -> str:
    """The grown arm that ended lowest, against both references; nothing where there is none."""
    found = judged([comparison])
    if not found:
        return ""
    _, row, gain = min(found, key=lambda entry: entry[1].loss)
    which = f"{row.name}, the lowest of {len(found)}" if len(found) > 1 else f"{row.name}"
    scratch, small = against(gain.scratch, "scratch"), against(gain.small, "the small one trained on")
    return f"{which}, ended at {scratch} and {small}"


def by_comparison(every: Sequence[Comparison]) -> list[str]:
    """A line for each pair of sizes, horizon and schedule."""
    said = [(comparison, lowest(comparison)) for comparison in every]
    return [f"* {capital(place(comparison))}: {text}." for comparison, text in said if text]


def usual(every: Sequence[Comparison]) -> list[str]:
    """A line for each comparison: the recipe that is growth's default, or the nearest to it, at half of the steps."""
    lines = []
    for comparison in every:
        found = {entry[1].name: entry for entry in judged([comparison])}
        names = (Name("grown", recipe, 0.5, 1.0) for recipe in USUAL)
        if name := next((name for name in names if name in found), None):
            gain = found[name][2]
            scratch, small = against(gain.scratch, "scratch"), against(gain.small, "the small one trained on")
            lines.append(f"* {capital(comparison.title)}, {name.recipe}: {scratch}, {small}.")
    return lines


def capital(text: str) -> str:
    return text[0].upper() + text[1:]


def small_is_there(every: Sequence[Comparison]) -> list[tuple[str, str, str]]:
    """What growing saves where the small phase need not be paid: comparison, arm, and the FLOPs of the large phase
    over those from scratch to the same loss."""
    rows = []
    for comparison in every:
        pair = [one for one in every if (one.title, one.schedule) == (comparison.title, comparison.schedule)]
        for row in comparison.grown:
            if row.name.wide_factor == 1 and row.name.recipe in USUAL and (share := share_of_scratch(pair, row)):
                rows.append((capital(place(comparison)), str(row.name), percent(share)))
    return rows


def percent(share: Difference) -> str:
    return f"{100 * share.mean:.0f} ± {100 * share.half:.0f} %"


def share_of_scratch(pair: Sequence[Comparison], row: Row) -> Difference | None:
    """The FLOPs of the large phase over those from scratch to the same mean loss; None where no run reaches it, with
    all seeds or without some."""

    def share(of: Sequence[Comparison], one: Row) -> float | None:
        needed = to_equal_loss(of, "scratch", one)
        return None if needed is None else (one.mean("flops") - one.mean("flops_before")) / needed

    groups = [share([one.without(group) for one in pair], row.without(group)) for group in range(GROUPS)]
    known, value = [one for one in groups if one is not None], share(pair, row)
    return None if value is None or len(known) < GROUPS else jackknife(value, known)


def if_the_small_model_is_there(every: Sequence[Comparison]) -> list[str]:
    """One sentence: the default recipes at horizon 1, grown at half of the steps."""
    said = []
    for comparison in every:
        pair = [one for one in every if (one.title, one.schedule) == (comparison.title, comparison.schedule)]
        for row in comparison.grown if comparison.horizon == 1 and comparison.schedule == "wsd" else ():
            usual = row.name.recipe in USUAL[:3] and row.name.wide_factor == 1
            if usual and row.name.grown_at == 0.5 and (share := share_of_scratch(pair, row)) is not None:
                said.append(f"{percent(share)} ({comparison.axis} {TIMES}{comparison.factor:g})")
    if not said:
        return []
    return [
        "* **If the small model is there already,** its FLOPs are not spent again: grown at half of the steps, "
        f"horizon 1, the large phase takes {', '.join(said)} of the FLOPs from scratch to the same loss."
    ]


def middles(every: Sequence[Comparison]) -> list[str]:
    """The lowest grown arm against a model of a size between, trained from scratch."""
    lines = []
    for comparison in every:
        middle, found = comparison.reference("middle"), judged([comparison])
        if middle is None or not found:
            continue
        row = min((row for _, row, _ in found), key=lambda row: row.loss)
        if difference := welch(row.losses, middle.losses):
            size = next(iter(middle.runs.values()))["size"]
            said = against(difference, f"a model of a size between, {size}, from scratch")
            lines.append(f"* {capital(place(comparison))}: the lowest grown arm, {row.name}, ended at {said}.")
    return lines


def rises(every: Sequence[Comparison]) -> list[str]:
    """The bump behind a growth, at horizon 1 and an unchanged rate."""
    said = []
    for comparison in every:
        rows = comparison.grown if comparison.horizon == 1 and comparison.schedule == "wsd" else []
        for row in (row for row in rows if row.name.recipe in USUAL or row.name.recipe.startswith("zero")):
            if row.name.wide_factor == 1 and row.name.grown_at == 0.5 and row.rise:
                said.append(
                    f"{number(row.rise, 2)} ({comparison.axis} {TIMES}{comparison.factor:g}, {row.name.recipe})"
                )
    if not said:
        return []
    return [f"* From the growth to the next point of its curve the loss of an arm moves by {', '.join(said)}."]


def for_docs(every: Sequence[Comparison]) -> str:
    found, lines = judged(every), [counted(every)]
    shown = [entry for entry in found if entry[2].of_more_than_the_limit == "shown"]
    beats = [entry for entry in found if entry[2].beats_both and entry not in shown]
    left = [entry for entry in found if entry[2].of_more_than_the_limit == "open" and entry not in beats]
    for title, entries in (
        (f"More than {LIMIT:g} below the better reference:", shown),
        ("Lower than both, but not shown to be lower by that much:", beats),
        (f"A gain of {LIMIT:g} neither shown nor ruled out:", left),
    ):
        lines += [f"* {title}", *listed(entries)] if entries else []
    lines += by_comparison(every) + middles(every) + rises(every)
    lines.append("* There is no correction for the number of comparisons: of a hundred intervals of 95 %, five miss.")
    return "\n".join(lines)


def for_readme(every: Sequence[Comparison]) -> str:
    plain = [one for one in every if one.schedule == "wsd" and one.factor == 2 and one.horizon == 1]
    there, lines = if_the_small_model_is_there(every), usual(plain)
    if lines:
        lines = ["* In nats per byte, grown at half of the steps, horizon 1:", *(f"  {line}" for line in lines)]
    return "\n".join([counted(every), *there, *lines])


def missing_jobs(header: Record, records: Sequence[Record]) -> str:
    """What of the plan the file does not have."""
    done = {record["job"] for record in records}
    plan = PRESETS[header["preset"]][1]()
    missing = [arm.job for arm in plan if arm.job not in done]
    if not missing:
        return "Every arm of the plan was run."
    items = "\n".join(f"* {job}" for job in missing)
    return f"Of the plan's {len(plan)} jobs {len(missing)} were not run:\n\n{items}"
