"""How far one output of two models is apart, and how much of that rounding explains."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from growth.checkpoint.results import Cosines, Distance
from growth.proof.outputs import Outputs

ORDER, MEAN_ORDER = 10, 3
"""Two outputs are equal if their largest difference is at most 10 times the rounding floor's, and
their mean difference at most 3 times."""


RESOLVED = 4
"""Outputs are found equal only if their mean difference is also at most a quarter of how much they
vary (`variation`). Unrelated models are 1.4 times as far apart as that, and grown ones up to 0.19
(docs/numerics.md)."""


def variation(outputs: Tensor) -> float:
    """How much outputs ``[..., features]`` vary: the mean of ``|output - mean over the features|``.
    A single feature is taken as it is.

    Example:
        >>> variation(torch.tensor([[1.0, 3.0], [7.0, 7.0]]))
        0.5
    """
    rows = outputs.double()
    return float((rows - (rows.mean(-1, keepdim=True) if rows.shape[-1] > 1 else 0)).abs().mean())


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


VECTORS = 512
"""Tokens between whose hidden states cosines are compared."""


def cosines(reference: Outputs, before: Outputs, after: Outputs, eps: float) -> Cosines | None:
    """How far the cosines between last hidden states move; None if the models return none.

    Args:
        reference, before, after: the outputs of the three runs.
        eps: of the weights. Rounding turns a vector of n features by about ``eps / sqrt(n)``.
    """
    name = max(
        (name for name in before if "hidden_states." in name and "encoder" not in name), default=None, key=_layer
    )
    name = "last_hidden_state" if "last_hidden_state" in before else name
    if name is None or before[name].ndim < 2:
        return None
    old, grown, wide = (_cosines(outputs[name]) for outputs in (before, after, reference))
    moved, floor, least = (grown - old).abs(), (wide - old).abs(), eps / before[name].shape[-1] ** 0.5
    return Cosines(
        name,
        Distance(float(moved.max()), float(moved.mean()), None, None),
        Distance(max(float(floor.max()), least), max(float(floor.mean()), least), None, None),
        float(after[name].double().norm() / before[name].double().norm()),
    )


def _layer(name: str) -> int:
    return int(name.rpartition(".")[2])


def _cosines(hidden: Tensor) -> Tensor:
    """``[vectors, vectors]`` of hidden states ``[..., features]``, the first `VECTORS` of them."""
    rows = torch.nn.functional.normalize(hidden.double().flatten(0, -2)[:VECTORS], dim=-1)
    return rows @ rows.T


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
