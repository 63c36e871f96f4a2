"""What there is to read of a plan: as `print` shows it, and ``grow plan``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from growth.plan.plan import Plan
from growth.plan.rounding import Exactness, predict
from growth.text import Part, Table, readable, wrapped

_SPACES = (
    "space: an axis that several tensors share, so that it grows the same way in all of them; law: how its new "
    "coordinates follow from the old ones."
)
_EXACTNESS = (
    "bit for bit: tensors whose weights are old ones times a power of two, which no float format rounds; rounded: "
    "the others, each weight once, by that much of its size; nothing rounds if you: the one change that avoids it."
)
_SHOWN = 4


def plan_parts(plan: Plan, verbose: bool = False) -> list[Part]:
    """A plan as tables and sentences.

    Args:
        plan: it.
        verbose: with every tensor and its roles.
    """
    old, new = plan.parameters(new=False), plan.parameters(new=True)
    changed = [f"{name} {_brief(a)} -> {_brief(b)}" for name, (a, b) in plan.config_changes.items()]
    sizes = [
        (name, f"{before:,}", f"{plan.new_sizes[name]:,}", plan.why.get(name, ""))
        for name, before in plan.old_sizes.items()
    ]
    parts: list[Part] = [
        f"{plan.model_class.__name__}, {plan.choices}",
        Table(("size", "old", "new", "why"), sizes, right=(1, 2)),
        Table(("space", "old", "new", "law"), plan.spaces(), right=(1, 2)),
        wrapped(_SPACES),
        f"{len(plan.tensors)} tensors, {old:,} -> {new:,} parameters, {readable(plan.bytes(new=False))} -> "
        f"{readable(plan.bytes(new=True))}",
        wrapped(f"config: {'; '.join(changed) or 'unchanged'}", indent="  "),
        exactness_table(predictions(plan)),
        wrapped(_EXACTNESS),
    ]
    parts += [wrapped(line, indent="  ") for line in new_layers(plan)]
    if plan.left_out:
        more = " ..." if len(plan.left_out) > _SHOWN else ""
        parts.append(f"left out, computed by the model itself: {', '.join(plan.left_out[:_SHOWN])}{more}")
    if verbose:
        parts.append(_tensors(plan))
    return [*parts, *note_parts(plan)]


def new_layers(plan: Plan) -> list[str]:
    """Which new layers there are and of which they are copies, a sentence per list of layers."""
    stacks = () if plan.extension is None else plan.extension.stacks
    copy = "copy" if plan.extension is not None and not plan.extension.silent else "silent copy"
    return [
        f"new in {stack.name}: "
        + ", ".join(f"{number} (a {copy} of {stack.origins[number]})" for number in sorted(stack.added))
        + f"; those that were there are now {', '.join(map(str, stack.kept))}"
        for stack in stacks
    ]


def note_parts(plan: Plan) -> list[str]:
    """What the caller should know, a sentence each."""
    return [f"note: {note}" for note in plan.notes]


def grown_table(plan: Plan, *more: tuple[str, str, str]) -> Table:
    """The sizes that changed and the parameters, before and after; then the rows ``more``."""
    rows = [
        (name, f"{old:,}", f"{plan.new_sizes[name]:,}")
        for name, old in plan.old_sizes.items()
        if plan.new_sizes[name] != old
    ]
    rows.append(("parameters", f"{plan.parameters(new=False):,}", f"{plan.parameters(new=True):,}"))
    return Table((plan.model_class.__name__, "before", "after"), [*rows, *more], right=(1, 2))


def predictions(plan: Plan) -> list[Exactness]:
    """What is rounded in the dtypes that the weights are stored in, and in each they could be
    converted to."""
    held = set(plan.source_dtypes.values())
    others = [dtype for dtype in (torch.float32, torch.bfloat16, torch.float16) if held != {dtype}]
    return [predict(plan, dtype) for dtype in (None, *others)]


def exactness_table(found: Sequence[Exactness]) -> Table:
    """One row per dtype: how many tensors come through bit for bit, how many are rounded, and what
    would avoid it."""
    rows = []
    for one in found:
        by = f"up to {one.largest:.1e}" if one.rounded else "-"
        rows.append(
            (one.dtype, len(one.rounding) - len(one.rounded), len(one.rounded), by, " or ".join(one.remedies) or "-")
        )
    header = ("held in", "bit for bit", "rounded", "by (relative RMS)", "nothing rounds if you")
    return Table(header, rows, right=(1, 2, 3))


def _tensors(plan: Plan) -> Table:
    rounding = predict(plan).rounding
    rows = [
        (
            t.name,
            *((_origin(plan, t.name),) if plan.extension else ()),
            _shape(plan.source_shape(t.name)),
            _shape(t.new_shape),
            f"{rounding[t.name]:.1e}" if rounding[t.name] else "-",
            "; ".join(map(str, t.roles)),
        )
        for t in plan.tensors.values()
    ]
    taken = ("from",) if plan.extension else ()
    return Table(("tensor", *taken, "old", "new", "rounding", "roles"), rows)


def _origin(plan: Plan, name: str) -> str:
    """Where a tensor of an extended model comes from, for the table."""
    part = plan.part(name)
    return f"all {part.fill:g}" if part.fill is not None else "-" if part.source == name else part.source


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
