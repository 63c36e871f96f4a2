"""Output heads: ``logits = U y + b`` with y the final norm's output.

A tied head shares its matrix with the embedding, which writes the residual stream: ``U' = write *
U``. It undoes that if ``y' = read_residual * y``, the residual's dual, which the final norm's gain
can arrange (it carries 1/k). An untied head is happy with the same, so one law serves both, and a
checkpoint need not say which it is.

BERT's transform stands before the head: dense, elementwise function, layer norm. Its width is a
space of its own; the layer norm leaves into ``final``. Classification heads with a hidden layer
(poolers) pass through an elementwise function: ``pooled``."""

from __future__ import annotations

from growth.algebra.axes import Space
from growth.algebra.laws import Copied, Law, LayerNorm
from growth.rules.linear import Rule, linear
from growth.rules.norm import FINAL, RESIDUAL, norm

POOLED = Space("pooled", "hidden_size")


TRANSFORM = Space("transform", "hidden_size")


HEAD_LAWS: dict[Space, Law] = {POOLED: Copied("an elementwise function"), TRANSFORM: LayerNorm(elementwise=True)}


def transform(dense: str, layer_norm: str) -> dict[str, Rule]:
    """The masked-language-model transform of BERT and RoBERTa."""
    return {dense: linear(RESIDUAL, TRANSFORM), layer_norm: norm(TRANSFORM, FINAL)}
