"""How plans, growths and reports look on a terminal."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

import click
import torch
from tqdm import tqdm
from transformers import logging as transformers_logging

from growth.checkpoint.verify import Distance, EquivalenceReport
from growth.checkpoint.widen import WidenedCheckpoint
from growth.hf.catalogue import Description, Family
from growth.plan.plan import Plan
from growth.plan.rounding import Exactness, predict

transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], right: Sequence[int] = ()) -> str:
    """Aligned columns; those numbered in ``right`` are right-aligned."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "  ".join(
            c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def size(count: int) -> str:
    """Bytes, readable."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


class Progress:
    """A bar over the bytes written; nothing where stderr is not a terminal."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def update(self, done: int, total: int, name: str) -> None:
        if self._bar is None:
            self._bar = tqdm(total=total, unit="B", unit_scale=True, disable=None, leave=False, desc="writing")
        self._bar.update(done - self._bar.n)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()


class Steps:
    """A bar over named steps; nothing where stderr is not a terminal."""

    def __init__(self, count: int, quiet: bool = False) -> None:
        self._bar: tqdm[Any] = tqdm(
            total=count,
            disable=True if quiet else None,
            leave=False,
            bar_format="{desc} [{n_fmt}/{total_fmt}] {elapsed}",
        )
        self._begun = False

    def next(self, what: str) -> None:
        if self._begun:
            self._bar.update()
        self._begun = True
        self._bar.set_description_str(what)

    def __enter__(self) -> Steps:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()


def plan_text(plan: Plan, verbose: bool = False) -> str:
    old, new = plan.parameters(new=False), plan.parameters(new=True)
    changes = (
        "; ".join(f"{name} {_brief(a)} -> {_brief(b)}" for name, (a, b) in plan.config_changes.items()) or "unchanged"
    )
    sizes = [
        (name, f"{before:,}", f"{plan.new_sizes[name]:,}", plan.why.get(name, ""))
        for name, before in plan.old_sizes.items()
    ]
    parts = [
        f"{plan.model_class.__name__}, {plan.choices}",
        table(("size", "old", "new", "why"), sizes, right=(1, 2)),
        table(("space", "old", "new", "law"), plan.spaces(), right=(1, 2)),
        f"{len(plan.tensors)} tensors, {old:,} -> {new:,} parameters, {size(plan.bytes(new=False))} -> "
        f"{size(plan.bytes(new=True))}",
        click.wrap_text(f"config: {changes}", width=80, subsequent_indent="  "),
    ]
    parts.append(exactness_text(predictions(plan)))
    if plan.left_out:
        parts.append(
            "left out, computed by the model itself: "
            f"{', '.join(plan.left_out[:4])}{' ...' if len(plan.left_out) > 4 else ''}"
        )
    if verbose:
        rounding = predict(plan).rounding
        rows = [
            (
                t.name,
                _shape(t.shape),
                _shape(t.new_shape),
                f"{rounding[t.name]:.1e}" if rounding[t.name] else "-",
                "; ".join(map(str, t.roles)),
            )
            for t in plan.tensors.values()
        ]
        parts.append(table(("tensor", "old", "new", "rounding", "roles"), rows))
    return "\n\n".join([*parts, *(f"note: {note}" for note in plan.notes)])


def predictions(plan: Plan) -> list[Exactness]:
    """As stored, and in the dtypes it could be converted to."""
    held = set(plan.source_dtypes.values())
    others = [dtype for dtype in (torch.float32, torch.bfloat16, torch.float16) if held != {dtype}]
    return [predict(plan, dtype) for dtype in (None, *others)]


def exactness_text(found: Sequence[Exactness]) -> str:
    rows = []
    for one in found:
        by = f"up to {one.largest:.1e}" if one.rounded else "-"
        rows.append(
            (one.dtype, len(one.rounding) - len(one.rounded), len(one.rounded), by, " or ".join(one.remedies) or "-")
        )
    header = ("held in", "bit for bit", "rounded", "by (relative RMS)", "none would be with")
    return table(header, rows, right=(1, 2, 3))


def widened_text(result: WidenedCheckpoint, src: str) -> str:
    plan = result.plan
    rows = [
        (name, f"{old:,}", f"{plan.new_sizes[name]:,}")
        for name, old in plan.old_sizes.items()
        if plan.new_sizes[name] != old
    ]
    rows.append(("parameters", f"{plan.parameters(new=False):,}", f"{plan.parameters(new=True):,}"))
    rows.append(("bytes", size(result.bytes_before), size(result.bytes_after)))
    parts = [table((plan.model_class.__name__, "before", "after"), rows, right=(1, 2)), str(result.proof)]
    if plan.lossy:
        twin = result.proof.twin
        parts.append(
            f"LOSSY, as you asked: outputs of the miniature move by up to {twin.difference:.3g} (they go up to "
            f"{twin.scale:.3g})."
        )
    if result.training:
        told = result.training
        state = f"training state: step {told['global_step']}, {told['optimizer']}, moments: {told['moments']}"
        parts.append(
            f"{state}; to go on, build the model from {result.path} and call "
            "Trainer.train(resume_from_checkpoint=...) with it"
        )
    if result.left_behind:
        parts.append(f"not copied, since it may describe the old sizes: {', '.join(result.left_behind)}")
    parts += [f"note: {note}" for note in plan.notes]
    return "\n\n".join(
        [*parts, f"written: {result.path}\nnext: grow verify {shlex.quote(src)} {shlex.quote(str(result.path))}"]
    )


def report_text(report: EquivalenceReport) -> str:
    def row(label: str, of: Distance) -> tuple[str, ...]:
        kl = "-" if of.kl is None else f"{of.kl:.2e}"
        return label, f"{of.largest:.2e}", f"{of.mean:.2e}", kl, "-" if of.top1 is None else f"{100 * of.top1:.2f} %"

    what = "tokens of text" if report.text else "random tokens (no tokenizer)" if report.tokens else ""
    head = (f"{report.output}, {report.dtype}", "max |d|", "mean |d|", "KL (nats)", "same top-1")
    rows = [row("grown - source", report.difference), row(f"floor: source - {report.floor_dtype}", report.floor)]
    parts = [
        table(head, rows, right=(1, 2, 3, 4)),
        f"on {f'{report.tokens} {what}' if what else 'random pixels or sound'}; outputs compared: "
        f"{', '.join(report.outputs)}",
    ]
    if report.perplexity:
        parts.append(f"perplexity: source {report.perplexity[0]:.6g}, grown {report.perplexity[1]:.6g}")
    if report.diverges_at:
        parts.append(f"hidden states diverge first at {report.diverges_at}")
    verdict = (
        "equal: within the order of the rounding floor"
        if report.equal
        else "NOT EQUAL: further apart than rounding explains"
    )
    if not report.equal and report.weights_dtype != report.dtype:
        held = report.weights_dtype
        verdict += f"; but weights are held in {held}, whose own rounding this floor lacks: try --dtype {held}"
    return "\n".join([*parts, f"{verdict} (on {report.device})"])


def families_text(rows: Sequence[Family]) -> str:
    listed = table(
        ("model_type", "classes", "widths", "wider heads", "positions"),
        [(row.model_type, _classes(row), row.widths, row.wider_heads, row.positions) for row in rows],
    )
    refused: dict[str, list[str]] = {}
    for row in rows:
        if row.refuses:
            refused.setdefault(row.refuses, []).append(row.model_type)
    notes = [
        click.wrap_text(f"refused: {what} ({', '.join(who)})", width=100, subsequent_indent="  ")
        for what, who in refused.items()
    ]
    return "\n".join([listed, "", *notes, "", "`grow architectures NAME` spells one out."])


def _classes(row: Family) -> str:
    first, others = (
        next((name for name in row.heads if name.endswith(("LM", "Generation"))), (*row.heads, "-")[0]),
        len(row.heads) - 1,
    )
    return f"{first} and {others} more" if others > 0 else first


def families_markdown(rows: Sequence[Family]) -> str:
    """The README's table."""
    body = [
        f"| `{row.model_type}` | {', '.join(row.heads) or '-'} | {row.widths} | {row.positions} | "
        f"{row.refuses or '-'} |"
        for row in rows
    ]
    return "\n".join(
        ["| model type | classes | widths | positions | refused, and why |", "|---|---|---|---|---|", *body]
    )


def description_text(description: Description) -> str:
    family = description.family
    parts = [
        f"{family.model_type}: {', '.join(family.classes) or 'no class can be grown'}",
        table(("size", "config field", "grows with"), description.sizes),
        table(("space", "size", "law"), description.spaces),
        table(("parameter", "roles, dimension by dimension"), description.parameters),
    ]
    return "\n\n".join([*parts, f"refused: {family.refuses}"] if family.refuses else parts)


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
