"""Comparing two real models on real text, beside the rounding floor.

In float32 or bfloat16, "the same function" can only mean: no further apart than rounding already
puts the source from what it would compute in a wider dtype. That distance is the *rounding floor*.
It takes three runs, with one model in memory at a time: the source in the wider dtype, the source,
and the grown model. Where rounding moves outputs by as much as they vary, any model of the class
would be within the floor; so a difference must also be small beside how much the outputs vary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from growth.arguments import check_function, whole_number
from growth.checkpoint.depth import entries_of
from growth.checkpoint.distance import ORDER, RESOLVED, cosines, distance, excess, perplexities, variation
from growth.checkpoint.provenance import other_source, recorded_plan
from growth.checkpoint.results import Distance, EquivalenceReport
from growth.checkpoint.run_pair import Model, as_model, describe, run_model, text_inputs
from growth.checkpoint.verify_modules import modules_behind
from growth.errors import CheckpointError, shown
from growth.hf.devices import usable_device
from growth.hf.dtypes import dtype_name, float_dtype
from growth.hf.reader import open_checkpoint
from growth.plan.plan import Plan
from growth.proof.outputs import Outputs, grown_output, output_map

Step = Callable[[str], None]


def check_equivalence(
    a: Model | nn.Module,
    b: Model | nn.Module,
    *,
    text: str | None = None,
    tokens: int = 512,
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    plan: Plan | None = None,
    step: Step | None = None,
) -> EquivalenceReport:
    """Compare a model and one that was grown from it on text, or on random tokens where the source
    has no tokenizer.

    Args:
        a: the source: a folder, a hub id, or a model in memory (of a stock class, or a module of a
            registered one). It is not modified.
        b: the grown model, likewise. A folder that growth wrote says in ``growth.json`` how hidden
            states map; without it, only outputs that do not grow, such as logits, can be compared.
        text: the text to read, if ``a`` is a folder with a tokenizer. Default: an excerpt that
            comes with the package.
        tokens: number of tokens to compare on, in sequences of 128.
        device: to run on. Default: a GPU if there is one.
        dtype: to run in. Default: the coarser of the two models' weights.
        plan: how b grew out of a (``Grown.plan``), for models in memory.
        step: called with a description before each of the three runs.

    Returns:
        The report; ``report.equal`` is the answer.

    Raises:
        GrowthError: a model that cannot be loaded, models of different classes, or nothing that can
            be compared.

    Example:
        >>> growth.widen_checkpoint("small", "wide", width=2)
        >>> report = growth.check_equivalence("small", "wide", dtype="float32")
        >>> report.equal, report.difference.largest <= 10 * report.floor.largest
        (True, True)
    """
    if (whole_number(tokens) or 0) < 2:
        raise CheckpointError(
            f"tokens must be a whole number of at least 2, not {shown(tokens)}. 512 is a good number."
        )
    tokens = int(tokens)
    if text is not None and not isinstance(text, str):
        raise CheckpointError(f"text must be the text itself, not {shown(text)}. Read the file first.")
    if plan is not None and not isinstance(plan, Plan):
        raise CheckpointError(f"plan must be a plan, not {shown(plan)}. Pass Grown.plan, or leave it out.")
    check_function("step", step)
    where = usable_device(("cuda" if torch.cuda.is_available() else "cpu") if device is None else device)
    a, b = as_model(a), as_model(b)
    opened = [open_checkpoint(model).files for model in (a, b) if not isinstance(model, PreTrainedModel)]
    raw, kind, own = describe(a)
    _, other_kind, other = describe(b)
    if kind is not other_kind:
        raise CheckpointError(
            f"{_name(a)} is a {kind.__name__} and {_name(b)} a {other_kind.__name__}, so they have different outputs. "
            "Compare models of the same class."
        )
    weights = max(own, other, key=lambda held: torch.finfo(held).eps)
    chosen = float_dtype(dtype) if dtype is not None else weights
    wide = torch.float32 if chosen in (torch.float16, torch.bfloat16) else torch.float64
    if plan is None and recorded_plan(b, a) is not None:
        raise CheckpointError(
            f"{_name(a)} was grown from {_name(b)}, by its growth.json. Name the source first, and the grown model "
            "second."
        )
    plan = plan or recorded_plan(a, b)
    inputs, is_text = text_inputs(a, raw, kind, text, tokens)
    if text is not None and not is_text:
        raise CheckpointError(
            f"{_name(a)} has no tokenizer, or its tokenizer makes fewer than two tokens of this text. Leave the "
            "text out."
        )
    tell = step or (lambda what: None)
    tell(f"source in {dtype_name(wide)}")
    reference = run_model(a, wide, where, inputs, exact=wide is torch.float64)
    tell(f"source in {dtype_name(chosen)}")
    before = run_model(a, chosen, where, inputs)
    tell(f"grown model in {dtype_name(chosen)}")
    after = run_model(b, chosen, where, inputs)
    for files in opened:
        files.check_unchanged()
    report = _report(reference, before, after, plan, inputs, is_text, (chosen, wide, weights, where))
    behind = modules_behind(a, b, plan)
    report = replace(report, modules=behind, equal=report.equal and not (behind and behind.other))
    return report if report.equal else replace(report, grown_from=other_source(a, b))


def _report(
    reference: Outputs,
    before: Outputs,
    after: Outputs,
    plan: Plan | None,
    inputs: Mapping[str, Tensor],
    is_text: bool,
    how: tuple[torch.dtype, torch.dtype, torch.dtype, torch.device],
) -> EquivalenceReport:
    """The report of three runs: the source in the wider dtype, the source, the grown model."""
    dtype, wide, weights, where = how
    eps = torch.finfo(dtype).eps
    known = entries_of(before, after, plan)
    reference, before = ({name: run[name] for name in known} for run in (reference, before))
    after = {name: after[entry] for name, entry in known.items()}
    rows = inputs["input_ids"].shape[:-1] if "input_ids" in inputs else None
    compared = _compared(reference, before, after, plan, eps, rows)
    if not compared:
        raise CheckpointError(
            f"no output of the two models can be compared: {', '.join(before)} differ in shape, and it is not known "
            "how they map. Compare the folder that growth wrote, or pass its plan."
        )
    beyond = {name: excess(difference, floor) for name, (difference, floor, _) in compared.items()}
    held = torch.finfo(weights).eps  # rounding parts the copies that these weights write
    moved = cosines(reference, before, after, held)
    explained = all(value <= 1 for value in beyond.values())
    coarse = {name: RESOLVED * difference.mean > varies for name, (difference, _, varies) in compared.items()}
    # The output that is furthest off; else one that rounding hides; else the logits.
    shown = max(beyond, key=lambda name: (max(beyond[name], 1.0), coarse[name], "logits" in name))
    return EquivalenceReport(
        equal=explained and not any(coarse.values()),
        output=shown,
        outputs=tuple(compared),
        tokens=inputs["input_ids"].numel() if "input_ids" in inputs else 0,
        text=is_text,
        dtype=dtype_name(dtype),
        floor_dtype=dtype_name(wide),
        weights_dtype=dtype_name(weights),
        device=str(where),
        difference=compared[shown][0],
        floor=compared[shown][1],
        perplexity=perplexities(before, after, inputs.get("labels")) if is_text else None,
        diverges_at=_divergence(reference, before, after, plan, held, known) if plan else None,
        cosines=moved,
        turned=moved is not None and excess(moved.difference, moved.floor) > 1,
        variation=compared[shown][2],
        resolved=not explained or not any(coarse.values()),
    )


def _compared(
    reference: Outputs, before: Outputs, after: Outputs, plan: Plan | None, eps: float, rows: torch.Size | None
) -> dict[str, tuple[Distance, Distance, float]]:
    """Output name -> (how far the grown model is from the source, the rounding floor, how much the
    output varies), for every output that both have and that has one shape, mapped by the plan where
    there is one. An output with one number for each of the ``rows`` of token ids has one feature:
    the choices of a multiple-choice head may all be the same text."""
    found: dict[str, tuple[Distance, Distance, float]] = {}
    for name in before:
        if "hidden_states." in name:
            continue
        mapped = output_map(name, before, plan) if plan else None
        expected, grown = grown_output(before[name].double(), mapped), after[name].double()
        if expected.shape == grown.shape:
            distribution = "logits" in name and before[name].shape[-1] > 1
            floor = distance(reference[name], before[name], distribution)
            ulp = before[name].double().abs() * eps
            largest, mean = max(floor.largest, float(ulp.max())), max(floor.mean, float(ulp.mean()))
            floor = replace(floor, largest=largest, mean=mean)
            varies = variation(expected.unsqueeze(-1) if expected.shape == rows else expected)
            found[name] = distance(expected, grown, distribution), floor, varies
    return found


def _divergence(
    reference: Outputs, before: Outputs, after: Outputs, plan: Plan, eps: float, entries: Mapping[str, str]
) -> str | None:
    """The first hidden state that differs by more than its rounding floor explains, with both; where
    layers were added, also which one of the grown model that is."""
    for name, value in before.items():
        if "hidden_states." in name:
            mapped = output_map(name, before, plan)
            expected = grown_output(value.double(), mapped)
            gap = (expected - after[name].double()).abs().max()
            floor = grown_output(reference[name].double() - value.double(), mapped).abs().max()
            scale = expected.abs().max() * eps
            if not float(gap) <= ORDER * float(torch.maximum(floor, scale)):
                entry = "" if entries[name] == name else f"{entries[name]} of the grown model; "
                return f"{name} ({entry}max |difference| {float(gap):.3g}, floor {float(floor):.3g})"
    return None


def _name(model: Model) -> str:
    return type(model).__name__ if isinstance(model, PreTrainedModel) else str(model)
