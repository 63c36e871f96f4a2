"""RoFormer: BERT's post-norm encoder with rotary positions, in pairs (2i, 2i+1), instead of
learned ones.

The table ``[sin(t w_0), ..., cos(t w_0), ...]`` is a frozen parameter. The model uses the one in
the checkpoint, or else computes it with ``w_i = 10000**(-2i/head_dim)``. A new pair takes the row
of the old pair that it copies; pairs whose keys start at zero could take any.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from growth.architectures import (
    FFN_LAWS,
    FIXED_FREQUENCIES,
    MASKED_HEADS,
    POOLED,
    RESIDUAL,
    VALUE,
    Architecture,
    Fixed,
    Frequencies,
    Growth,
    Keeps,
    Law,
    Map,
    Scores,
    Size,
    Space,
    Times,
    Variant,
    Writes,
    attention_laws,
    attention_scale,
    linear,
    no_scale,
    shared_epsilon,
    standard_sizes,
)
from growth.architectures.families.albert import (
    EMBEDDED,
    EMBEDDED_FINAL,
    FACTORISED_EMBEDDINGS,
    FACTORISED_LAWS,
    factorised_transform,
)
from growth.architectures.families.bert import ENCODER
from growth.architectures.families.electra import small_embedding, without_projection

FREQUENCIES = Space("frequencies", "rotary_pairs")


ROTARY_PAIRS = Size(follows=lambda c, s: -(-s["head_dim"] // 2))


@dataclass(frozen=True)
class _TurningValues(Law):
    """The values under ``rotary_value``, which turn as keys do. Slots that hold no old pair turn at another
    frequency, so that a copy there would differ from the old value; they start silent, and what reads them does
    not, so that they learn from the first step."""

    def grow(self, g: Growth) -> Map:
        grown = Scores("key", "interleaved", "value_scale").grow(g)
        return replace(grown, read=np.where(grown.write == 0, 1.0, grown.read))

    def constants(self) -> tuple[str, ...]:
        return ("value_scale",)

    def __str__(self) -> str:
        return "rotary values (interleaved)"


def _for_config(architecture: Architecture, config: Any) -> Architecture:
    """With ``rotary_value`` the values turn too."""
    laws = {**architecture.laws, VALUE: _TurningValues()} if config.rotary_value else architecture.laws
    return without_projection(replace(architecture, laws=laws), config)


ROFORMER = Architecture(
    model_type="roformer",
    modules={
        **ENCODER,
        **FACTORISED_EMBEDDINGS,
        "embeddings_project": linear(EMBEDDED, RESIDUAL),
        "encoder.embed_positions": {"weight": (Keeps(), Writes(Fixed(2) * FREQUENCIES))},
        **factorised_transform("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm"),
        "cls.predictions": {"bias": (Keeps(),)},
        "cls.predictions.decoder": linear(EMBEDDED_FINAL),
        "classifier.dense": linear(RESIDUAL, POOLED),
        "classifier.out_proj": linear(POOLED),
        "classifier": linear(RESIDUAL),
    },
    laws={**FACTORISED_LAWS, FREQUENCIES: Frequencies(), **FFN_LAWS, **attention_laws(rotary="interleaved")},
    outputs={"hidden_states": RESIDUAL, "last_hidden_state": RESIDUAL},
    epsilon="layer_norm_eps",
    prefixes=("roformer",),
    sizes={
        **standard_sizes(),
        "embedding_size": Size("embedding_size", follows=Times(1, "hidden_size"), small=small_embedding),
        "rotary_pairs": ROTARY_PAIRS,
    },
    for_config=_for_config,
    constants={"attention_scale": attention_scale, "value_scale": no_scale},
    vouched={
        "hidden_act": None,
        "hidden_dropout_prob": None,
        "attention_probs_dropout_prob": None,
        "initializer_range": None,
        "type_vocab_size": None,
        "is_decoder": None,
        "rotary_value": (True, False),
    },
    positions="rotary",
    refuses=(FIXED_FREQUENCIES, shared_epsilon("a language-model head", MASKED_HEADS)),
    variants={"RoFormerForMultipleChoice": Variant(modules={"classifier": linear(RESIDUAL)})},
    optional=("encoder.embed_positions.weight",),
    branches=(
        {},
        {"embedding_size": 128, "rotary_value": True},
        {"is_decoder": True, "hidden_act": "relu", "tie_word_embeddings": False},
    ),
)
