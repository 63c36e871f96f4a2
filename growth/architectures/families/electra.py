"""ELECTRA: BERT's encoder behind a factorised embedding, with a generator's or a discriminator's
head.

Where the embedding is as wide as the residual stream, there is no projection between them, and the
embedding's norm leaves into the stream.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from growth.architectures import (
    FFN_LAWS,
    POOLED,
    RESIDUAL,
    Architecture,
    Size,
    Times,
    TwinContext,
    Variant,
    attention_laws,
    attention_scale,
    linear,
    norm,
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


def without_projection(architecture: Architecture, config: Any) -> Architecture:
    """The declaration where the embedding and the residual stream are equally wide."""
    if config.embedding_size != config.hidden_size:
        return architecture
    size = Size("embedding_size", "follows", follows=Times(1, "hidden_size"), small=small_embedding)
    modules = {**architecture.modules, "embeddings.LayerNorm": norm(EMBEDDED, RESIDUAL)}
    return replace(architecture, modules=modules, sizes={**architecture.sizes, "embedding_size": size})


def small_embedding(user: TwinContext) -> int:
    """As wide as the twin's residual stream if it is so in the model, else narrower."""
    return user.small["hidden_size"] if user.sizes["embedding_size"] == user.sizes["hidden_size"] else 13


ELECTRA = Architecture(
    model_type="electra",
    modules={
        **ENCODER,
        **FACTORISED_EMBEDDINGS,
        "embeddings_project": linear(EMBEDDED, RESIDUAL),
        **factorised_transform("generator_predictions.dense", "generator_predictions.LayerNorm"),
        "generator_lm_head": linear(EMBEDDED_FINAL),
        "discriminator_predictions.dense": linear(RESIDUAL, POOLED),
        "discriminator_predictions.dense_prediction": linear(POOLED),
        "classifier.dense": linear(RESIDUAL, POOLED),
        "classifier.out_proj": linear(POOLED),
        "classifier": linear(RESIDUAL),
        "sequence_summary.summary": linear(RESIDUAL, POOLED),
    },
    laws={**FACTORISED_LAWS, **FFN_LAWS, **attention_laws()},
    outputs={"hidden_states": RESIDUAL, "last_hidden_state": RESIDUAL},
    epsilon="layer_norm_eps",
    prefixes=("electra",),
    sizes={**standard_sizes(), "embedding_size": Size("embedding_size", small=small_embedding)},
    for_config=without_projection,
    constants={"attention_scale": attention_scale},
    vouched={
        "hidden_act": None,
        "hidden_dropout_prob": None,
        "attention_probs_dropout_prob": None,
        "classifier_dropout": None,
        "initializer_range": None,
        "type_vocab_size": None,
        "is_decoder": None,
        "position_embedding_type": ("absolute",),
        "summary_type": ("last", "first", "mean", "cls_index"),
        "summary_use_proj": (True,),
        "summary_activation": None,
        "summary_last_dropout": None,
    },
    refuses=(shared_epsilon("a generator's head", ("ForMaskedLM", "ForCausalLM")),),
    variants={"ElectraForMultipleChoice": Variant(modules={"classifier": linear(POOLED)})},
    buffers=("embeddings.position_ids", "embeddings.token_type_ids"),
    branches=(
        {},
        {"embedding_size": 256, "tie_word_embeddings": False},
        {"is_decoder": True, "hidden_act": "relu", "summary_type": "mean", "summary_activation": "tanh"},
    ),
)
