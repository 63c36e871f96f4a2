"""The real two models on real text, beside the rounding floor: how far the source is from itself in a wider dtype.

In float32 or bfloat16 "the same function" can only mean: no further apart than rounding already puts the source from what it would
compute in wider arithmetic. Three runs, one model in memory at a time: the source wider, the source, the grown model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from growth.equivalence.exact import usable_device
from growth.equivalence.outputs import Outputs, grown_output, output_map
from growth.equivalence.running import Model, describe, run_model, text_inputs
from growth.errors import CheckpointError, GrowthError
from growth.plan import Plan, plan_widening
from growth.source import FLOATS, read_json, resolve

ORDER = 10
"""Equal means: within one order of magnitude of the rounding floor."""
_PRIMARY = ("logits", "prediction_logits", "start_logits", "last_hidden_state")

Step = Callable[[str], None]


@dataclass(frozen=True)
class Distance:
    """How far two runs are apart.

    Args:
        largest, mean: of |difference| of the output.
        kl: mean KL divergence in nats per position, None where the output is not a distribution.
        top1: share of positions with the same argmax, likewise.
    """

    largest: float
    mean: float
    kl: float | None
    top1: float | None


@dataclass(frozen=True)
class EquivalenceReport:
    """What `check_equivalence` found.

    Args:
        equal: the models differ by no more than the floor's order of magnitude.
        output: which output was compared.
        difference: grown model against source, both in ``dtype``.
        floor: source in ``dtype`` against source in ``floor_dtype``; at least one unit in the last place of the largest output.
        perplexity: of source and grown model on the text, None where the model predicts no tokens.
        diverges_at: first hidden state that differs by more than its own floor's order, None if none does or none can be compared.
    """

    equal: bool
    output: str
    tokens: int
    dtype: str
    floor_dtype: str
    device: str
    difference: Distance
    floor: Distance
    perplexity: tuple[float, float] | None
    diverges_at: str | None

    def to_json(self) -> dict[str, Any]:
        return {name: _plain(value) for name, value in asdict(self).items()}


def _plain(value: Any) -> Any:
    """JSON knows no NaN and no infinity: None instead."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_equivalence(
    a: Model,
    b: Model,
    *,
    text: str | None = None,
    tokens: int = 512,
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    step: Step | None = None,
) -> EquivalenceReport:
    """Compare a model and one grown from it on text, or on random tokens where the source has no tokenizer.

    Args:
        a: the source: a folder, a hub id or a model in memory.
        b: the grown model, likewise. A folder written by growth says in ``growth.json`` how hidden states map; otherwise only outputs
            that do not grow (logits) can be compared.
        text: what to read; by default an excerpt that comes with the package.
        tokens: how many to compare on.
        device: by default a GPU if there is one.
        dtype: to compare in; by default the coarser of the two.
        step: called with a description before each of the three runs.

    Raises:
        GrowthError: if either cannot be loaded, or nothing can be compared.
    """
    if tokens < 2:
        raise CheckpointError(f"tokens must be at least 2, not {tokens}. 512 is a good number.")
    where = usable_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    raw, kind, own = describe(a)
    _, other_kind, other = describe(b)
    if kind is not other_kind:
        raise CheckpointError(
            f"{_name(a)} is a {kind.__name__} and {_name(b)} a {other_kind.__name__}; only models of one class compute the same function."
        )
    chosen = getattr(torch, str(dtype).removeprefix("torch."), None) if dtype else max(own, other, key=lambda kind: torch.finfo(kind).eps)
    if chosen not in FLOATS:
        raise CheckpointError(f"dtype must be float64, float32, float16 or bfloat16, not {dtype!r}.")
    wide = torch.float32 if chosen in (torch.float16, torch.bfloat16) else torch.float64
    plan = _plan(a, b)
    inputs = text_inputs(a, raw, kind, text, tokens)
    tell = step or (lambda what: None)
    tell(f"source in {_short(wide)}")
    reference = run_model(a, wide, where, inputs, exact=wide is torch.float64)
    tell(f"source in {_short(chosen)}")
    before = run_model(a, chosen, where, inputs)
    tell(f"grown model in {_short(chosen)}")
    after = run_model(b, chosen, where, inputs)
    return _report(reference, before, after, plan, inputs, (chosen, wide, where))


def _report(
    reference: Outputs,
    before: Outputs,
    after: Outputs,
    plan: Plan | None,
    inputs: Mapping[str, Tensor],
    how: tuple[torch.dtype, torch.dtype, torch.device],
) -> EquivalenceReport:
    dtype, wide, where = how
    name = next((name for name in _PRIMARY if name in before), None)
    if name is None:
        raise CheckpointError(f"this model returns none of {', '.join(_PRIMARY)}, so there is nothing to compare.")
    distribution = "logits" in name and before[name].shape[-1] > 1
    expected = grown_output(before[name].double(), output_map(name, before, plan) if plan else None)
    if expected.shape != after[name].shape:
        raise CheckpointError(
            f"output '{name}' has shape {list(expected.shape)} in one model and {list(after[name].shape)} in the other, "
            "and no growth.json says how it maps."
        )
    difference = _distance(expected, after[name], distribution)
    measured = _distance(reference[name], before[name], distribution)
    unit = torch.finfo(dtype).eps * float(before[name].abs().max())
    floor = Distance(max(measured.largest, unit), measured.mean, measured.kl, measured.top1)
    labels = inputs.get("labels")
    perplexity = (_perplexity(before[name], labels), _perplexity(after[name], labels)) if labels is not None and distribution else None
    return EquivalenceReport(
        equal=difference.largest <= ORDER * floor.largest,
        output=name,
        tokens=inputs["input_ids"].numel(),
        dtype=_short(dtype),
        floor_dtype=_short(wide),
        device=str(where),
        difference=difference,
        floor=floor,
        perplexity=perplexity,
        diverges_at=_divergence(reference, before, after, plan, torch.finfo(dtype).eps) if plan else None,
    )


def _distance(a: Tensor, b: Tensor, distribution: bool) -> Distance:
    largest, total, kl, same = 0.0, 0.0, 0.0, 0
    rows_a, rows_b = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    for x, y in zip(rows_a.split(64), rows_b.split(64), strict=True):
        x, y = x.double(), y.double()
        gap = (x - y).abs()
        largest, total = max(largest, float(gap.max())) if not gap.isnan().any() else math.inf, total + float(gap.sum())
        if distribution:
            p, q = x.log_softmax(-1), y.log_softmax(-1)
            kl += float((p.exp() * (p - q)).sum())
            same += int((x.argmax(-1) == y.argmax(-1)).sum())
    count = len(rows_a)
    return Distance(largest, total / a.numel(), max(kl, 0.0) / count if distribution else None, same / count if distribution else None)


def _perplexity(logits: Tensor, labels: Tensor) -> float:
    losses = [
        torch.nn.functional.cross_entropy(row.double(), label, ignore_index=-100, reduction="sum")
        for row, label in zip(logits, labels, strict=True)
    ]
    return math.exp(float(torch.stack(losses).sum()) / int((labels != -100).sum()))


def _divergence(reference: Outputs, before: Outputs, after: Outputs, plan: Plan, eps: float) -> str | None:
    for name, value in before.items():
        if "hidden_states." in name and name in after:
            grown = output_map(name, before, plan)
            gap = (grown_output(value.double(), grown) - after[name].double()).abs().max()
            floor = (grown_output(reference[name].double() - value.double(), grown)).abs().max()
            scale = grown_output(value.double(), grown).abs().max() * eps
            if not float(gap) <= ORDER * float(torch.maximum(floor, scale)):
                return f"{name} (max |difference| {float(gap):.3g}, floor {float(floor):.3g})"
    return None


def _plan(a: Model, b: Model) -> Plan | None:
    """How b grew out of a, from b's ``growth.json``."""
    if isinstance(a, PreTrainedModel) or isinstance(b, PreTrainedModel):
        return None
    record = resolve(b) / "growth.json"
    if not record.is_file():
        return None
    try:
        return plan_widening(a, **read_json(record)["plan"]["options"])
    except (GrowthError, KeyError, TypeError):
        return None


def _name(model: Model) -> str:
    return type(model).__name__ if isinstance(model, PreTrainedModel) else str(model)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
