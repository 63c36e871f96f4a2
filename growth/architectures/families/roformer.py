"""RoFormer: BERT's post-norm encoder with rotary positions, in pairs (2i, 2i+1), instead of
learned ones.

The table ``[sin(t w_0), ..., cos(t w_0), ...]`` is a frozen parameter. The model uses the one in
the checkpoint, or else computes it with ``w_i = 10000**(-2i/head_dim)``. A new pair takes the row
of the old pair that it copies; pairs whose keys start at zero could take any.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

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
    Keeps,
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


def _for_config(architecture: Architecture, config: Any) -> Architecture:
    """With ``rotary_value`` the values turn too. Their law is that of queries, with a scale of 1:
    the output projection takes the place of the keys."""
    laws = (
        {**architecture.laws, VALUE: Scores("query", "interleaved", "value_scale")}
        if config.rotary_value
        else architecture.laws
    )
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
