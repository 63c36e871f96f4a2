"""The real two models on real text, beside the rounding floor: how far the source is from itself in
a wider dtype.

In float32 or bfloat16 "the same function" can only mean: no further apart than rounding already
puts the source from what it would
compute in wider arithmetic. Three runs, one model in memory at a time: the source wider, the
source, the grown model."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from growth.checkpoint.preview import plan_widening
from growth.checkpoint.record import other_source
from growth.checkpoint.results import Distance, EquivalenceReport
from growth.checkpoint.run_pair import Model, as_model, describe, run_model, text_inputs
from growth.errors import CheckpointError, GrowthError
from growth.hf.config_json import read_json
from growth.hf.devices import usable_device
from growth.hf.dtypes import dtype_name, float_dtype
from growth.hf.reader import resolve
from growth.plan.plan import Plan
from growth.proof.outputs import Comparison, Outputs, output_comparison

ORDER, MEAN_ORDER = 10, 3
"""Equal means: the largest difference within one order of magnitude of the rounding floor's, the
mean within half an order."""


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
    """Compare a model and one grown from it on text, or on random tokens where the source has no
    tokenizer.

    Args:
        a: the source: a folder, a hub id or a model in memory (of a stock class, or a module of a
            registered one).
        b: the grown model, likewise. A folder written by growth says in ``growth.json`` how hidden
            states map; otherwise only outputs that do not grow (logits) can be compared.
        text: what to read, if ``a`` is a folder with a tokenizer; by default an excerpt that comes
            with the package.
        tokens: how many to compare on.
        device: by default a GPU if there is one.
        dtype: to compare in; by default the coarser of the two.
        plan: how b grew out of a, so that hidden states can be compared (``Grown.plan``); a folder
            written by growth knows.
        step: called with a description before each of the three runs.

    Raises:
        GrowthError: if either cannot be loaded, or nothing can be compared.
    """
    if tokens < 2:
        raise CheckpointError(f"tokens must be at least 2, not {tokens}. 512 is a good number.")
    where = usable_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    a, b = as_model(a), as_model(b)
    raw, kind, own = describe(a)
    _, other_kind, other = describe(b)
    if kind is not other_kind:
        raise CheckpointError(
            f"{_name(a)} is a {kind.__name__} and {_name(b)} a {other_kind.__name__}; only models of one class "
            "compute the same function."
        )
    weights = max(own, other, key=lambda held: torch.finfo(held).eps)
    chosen = float_dtype(dtype) if dtype else weights
    wide = torch.float32 if chosen in (torch.float16, torch.bfloat16) else torch.float64
    plan = plan or _plan(a, b)
    inputs, is_text = text_inputs(a, raw, kind, text, tokens)
    if text is not None and not is_text:
        raise CheckpointError(f"{_name(a)} has no tokenizer to read a text with, or reads none. Leave the text out.")
    tell = step or (lambda what: None)
    tell(f"source in {dtype_name(wide)}")
    reference = run_model(a, wide, where, inputs, exact=wide is torch.float64)
    tell(f"source in {dtype_name(chosen)}")
    before = run_model(a, chosen, where, inputs)
    tell(f"grown model in {dtype_name(chosen)}")
    after = run_model(b, chosen, where, inputs)
    report = _report(reference, before, after, plan, inputs, is_text, (chosen, wide, weights, where))
    if report.equal or isinstance(a, PreTrainedModel) or isinstance(b, PreTrainedModel):
        return report
    return replace(report, grown_from=other_source(resolve(a), resolve(b)))


def _report(
    reference: Outputs,
    before: Outputs,
    after: Outputs,
    plan: Plan | None,
    inputs: Mapping[str, Tensor],
    is_text: bool,
    how: tuple[torch.dtype, torch.dtype, torch.dtype, torch.device],
) -> EquivalenceReport:
    dtype, wide, weights, where = how
    eps = torch.finfo(dtype).eps
    pairs: dict[str, tuple[Distance, Distance]] = {}
    for name in [name for name in before if "hidden_states." not in name and name in after]:
        compared = output_comparison(name, before, plan) if plan else Comparison()
        expected, found = compared.expected(before[name].double()), compared.found(after[name].double())
        if expected.shape == found.shape:
            distribution = _is_distribution(name, before[name])
            measured = _distance(reference[name], before[name], distribution)
            size = before[name].double().abs() * eps
            floor = replace(
                measured, largest=max(measured.largest, float(size.max())), mean=max(measured.mean, float(size.mean()))
            )
            pairs[name] = _distance(expected, found, distribution), floor
    if not pairs:
        raise CheckpointError(
            f"no output of the two can be compared: {', '.join(before)} differ in shape, and nothing says how they "
            "map. "
            "Compare the folder that growth wrote, or pass its plan."
        )
    excess = {name: _excess(difference, floor) for name, (difference, floor) in pairs.items()}
    name = max(
        excess, key=lambda name: (max(excess[name], 1.0), "logits" in name)
    )  # logits, unless another output is off
    labels = inputs.get("labels")
    predictions = next((name for name in ("logits", "prediction_logits") if name in before), None)
    perplexity = None
    if labels is not None and predictions is not None and is_text:
        perplexity = _perplexity(before[predictions], labels), _perplexity(after[predictions], labels)
    return EquivalenceReport(
        equal=all(value <= 1 for value in excess.values()),
        output=name,
        outputs=tuple(pairs),
        tokens=inputs["input_ids"].numel() if "input_ids" in inputs else 0,
        text=is_text,
        dtype=dtype_name(dtype),
        floor_dtype=dtype_name(wide),
        weights_dtype=dtype_name(weights),
        device=str(where),
        difference=pairs[name][0],
        floor=pairs[name][1],
        perplexity=perplexity,
        diverges_at=_divergence(reference, before, after, plan, eps) if plan else None,
    )


def _excess(difference: Distance, floor: Distance) -> float:
    """How far beyond what rounding explains: at most 1 is equal."""
    if floor.largest == 0:
        return 0.0 if difference.largest == 0 else math.inf
    return max(difference.largest / floor.largest / ORDER, difference.mean / floor.mean / MEAN_ORDER)


def _is_distribution(name: str, value: Tensor) -> bool:
    return "logits" in name and value.shape[-1] > 1


def _distance(a: Tensor, b: Tensor, distribution: bool) -> Distance:
    largest, total, kl, same = 0.0, 0.0, 0.0, 0
    rows_a, rows_b = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    for x, y in zip(rows_a.split(64), rows_b.split(64), strict=True):
        x, y = x.double(), y.double()
        gap = (x - y).abs()
        largest, total = (
            max(largest, float(gap.max())) if not gap.isnan().any() else math.inf,
            total + float(gap.sum()),
        )
        if distribution:
            p, q = x.log_softmax(-1), y.log_softmax(-1)
            kl += float((p.exp() * (p - q)).sum())
            same += int((x.argmax(-1) == y.argmax(-1)).sum())
    count = len(rows_a)
    return Distance(
        largest,
        total / a.numel(),
        max(kl, 0.0) / count if distribution else None,
        same / count if distribution else None,
    )


def _perplexity(logits: Tensor, labels: Tensor) -> float:
    losses = [
        torch.nn.functional.cross_entropy(row.double(), label, ignore_index=-100, reduction="sum")
        for row, label in zip(logits, labels, strict=True)
    ]
    return math.exp(float(torch.stack(losses).sum()) / int((labels != -100).sum()))


def _divergence(reference: Outputs, before: Outputs, after: Outputs, plan: Plan, eps: float) -> str | None:
    for name, value in before.items():
        if "hidden_states." in name and name in after:
            compared = output_comparison(name, before, plan)
            gap = (compared.expected(value.double()) - compared.found(after[name].double())).abs().max()
            floor = compared.expected(reference[name].double() - value.double()).abs().max()
            scale = compared.expected(value.double()).abs().max() * eps
            if not float(gap) <= ORDER * float(torch.maximum(floor, scale)):
                return f"{name} (max |difference| {float(gap):.3g}, floor {float(floor):.3g})"
    return None


def _plan(a: Model, b: Model) -> Plan | None:
    """How b grew out of a, from b's ``growth.json``, if that was written for this very a."""
    if isinstance(a, PreTrainedModel) or isinstance(b, PreTrainedModel):
        return None
    record = resolve(b) / "growth.json"
    if not record.is_file():
        return None
    try:
        grown = read_json(record)
        config = (resolve(a) / "config.json").read_bytes()
        if grown["source"]["sha256"]["config.json"] != hashlib.sha256(config).hexdigest():
            return None
        return plan_widening(a, **grown["plan"]["options"])
    except (GrowthError, KeyError, TypeError):
        return None


def _name(model: Model) -> str:
    return type(model).__name__ if isinstance(model, PreTrainedModel) else str(model)
