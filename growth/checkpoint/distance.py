"""How far one output of two models is apart, and how much of that rounding explains."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from growth.checkpoint.results import Distance
from growth.proof.outputs import Outputs

ORDER, MEAN_ORDER = 10, 3
"""Two outputs are equal if their largest difference is at most 10 times the rounding floor's, and
their mean difference at most 3 times."""


def excess(difference: Distance, floor: Distance) -> float:
    """The difference in units of what rounding explains: up to 1 is equal."""
    if floor.largest == 0:
        return 0.0 if difference.largest == 0 else math.inf
    return max(difference.largest / floor.largest / ORDER, difference.mean / floor.mean / MEAN_ORDER)


def distance(a: Tensor, b: Tensor, distribution: bool) -> Distance:
    """The distance of two outputs ``[..., features]``, worked out in float64, 64 rows at a time."""
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


def perplexities(before: Outputs, after: Outputs, labels: Tensor | None) -> tuple[float, float] | None:
    """Of source and grown model; None for a class that predicts no tokens."""
    logits = next((name for name in ("logits", "prediction_logits") if name in before), None)
    if labels is None or logits is None:
        return None
    return _perplexity(before[logits], labels), _perplexity(after[logits], labels)


def _perplexity(logits: Tensor, labels: Tensor) -> float:
    losses = [
        torch.nn.functional.cross_entropy(row.double(), label, ignore_index=-100, reduction="sum")
        for row, label in zip(logits, labels, strict=True)
    ]
    return math.exp(float(torch.stack(losses).sum()) / int((labels != -100).sum()))
