"""Output heads: ``logits = U y + b``, with y the output of the final norm.

A tied head shares its matrix with the embedding, which writes the residual stream: ``U' = write *
U``. The logits stay the same if y' has ``read`` of the residual stream as its ``write``: the
residual stream's dual (`growth.algebra.derived_laws.Dual`). The gain of the final norm can arrange
that; it carries the 1/k. An untied head can read the same, so one law serves both, and a
declaration need not know whether a head is tied.

BERT's transform stands before its head: dense layer, elementwise function, layer norm. Its width is
the space ``transform``, and the layer norm leaves into ``final``. Classification heads with a
hidden layer (poolers) pass through an elementwise function: the space ``pooled``.
"""

from __future__ import annotations

from growth.algebra.axes import Space
from growth.algebra.laws import Copied, Law
from growth.algebra.norm_laws import LayerNorm
from growth.rules.linear import Rule, linear
from growth.rules.norm import FINAL, RESIDUAL, norm

POOLED = Space("pooled", "hidden_size")
TRANSFORM = Space("transform", "hidden_size")

HEAD_LAWS: dict[Space, Law] = {POOLED: Copied("an elementwise function"), TRANSFORM: LayerNorm(elementwise=True)}


def mlm_transform(dense: str, layer_norm: str) -> dict[str, Rule]:
    """The masked-language-model transform of BERT and RoBERTa.

    Args:
        dense, layer_norm: names of its two modules.

    Example:
        >>> rules = mlm_transform("cls.transform.dense", "cls.transform.LayerNorm")
        >>> str(rules["cls.transform.LayerNorm"]["weight"][0])
        'gain transform -> final'
    """
    return {dense: linear(RESIDUAL, TRANSFORM), layer_norm: norm(TRANSFORM, FINAL)}
