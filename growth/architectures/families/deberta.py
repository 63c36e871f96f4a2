"""DeBERTa: BERT's post-norm encoder with disentangled attention, ``(q . k + q . p_k + p_q . k) /
sqrt(head_dim * terms)``.

The keys p_k and queries p_q of relative positions are projections of one table. They range over the
same spaces as keys and queries. Queries, keys and values are fused head by head.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from growth.architectures import (
    ATTENDED,
    FFN_LAWS,
    HEADS,
    KEY,
    KEYS,
    MASKED_HEADS,
    POOLED,
    QUERIES,
    QUERY,
    RESIDUAL,
    VALUE,
    VALUES,
    Architecture,
    Copied,
    Dual,
    Keeps,
    Law,
    LayerNorm,
    Rule,
    Size,
    Space,
    Times,
    Variant,
    Writes,
    attention_laws,
    attention_scale,
    embedding,
    feed_forward,
    linear,
    norm,
    shared_epsilon,
    standard_sizes,
)

EMBEDDED = Space("embedded", "embedding_size")


TRANSFORM = Space("transform", "embedding_size")


HEAD_INPUT = Space("head input", "embedding_size")


def _transform(dense: str, layer_norm: str) -> dict[str, Rule]:
    return {dense: linear(RESIDUAL, TRANSFORM), layer_norm: norm(TRANSFORM, HEAD_INPUT)}


def projected(architecture: Architecture, config: Any) -> Architecture:
    """The declaration with a projection before the embedding's norm, where embedding_size is not
    hidden_size. Else embedding_size follows hidden_size. Head width follows hidden_size and the
    number of heads, even where the config states attention_head_size."""
    narrower = getattr(config, "embedding_size", config.hidden_size) != config.hidden_size
    following = ["head_dim"] if getattr(config, "attention_head_size", None) else []
    following += [] if narrower else ["embedding_size"]
    sizes = {**architecture.sizes, **{name: replace(architecture.sizes[name], grows="follows") for name in following}}
    modules = (
        {**architecture.modules, "embeddings.LayerNorm": norm(RESIDUAL, RESIDUAL)}
        if narrower
        else architecture.modules
    )
    return replace(architecture, modules=modules, sizes=sizes)


STREAM_LAWS: dict[Space, Law] = {
    RESIDUAL: LayerNorm(),
    EMBEDDED: LayerNorm(),
    HEAD_INPUT: Dual(EMBEDDED),
    TRANSFORM: LayerNorm(elementwise=True),
    POOLED: Copied("an elementwise function"),
}


DEBERTA = Architecture(
    model_type="deberta",
    modules={
        **{f"embeddings.{table}_embeddings": embedding(EMBEDDED) for table in ("word", "position", "token_type")},
        "embeddings.embed_proj": linear(EMBEDDED, RESIDUAL),
        "embeddings.LayerNorm": norm(EMBEDDED, RESIDUAL),
        "encoder.rel_embeddings": embedding(RESIDUAL),
        "encoder.layer.*.attention.self": {"q_bias": (Writes(QUERIES),), "v_bias": (Writes(VALUES),)},
        "encoder.layer.*.attention.self.in_proj": linear(RESIDUAL, HEADS * (QUERY + KEY + VALUE)),
        "encoder.layer.*.attention.self.pos_proj": linear(RESIDUAL, KEYS),
        "encoder.layer.*.attention.self.pos_q_proj": linear(RESIDUAL, QUERIES),
        "encoder.layer.*.attention.self.head_logits_proj": linear(HEADS, HEADS),
        "encoder.layer.*.attention.self.head_weights_proj": linear(HEADS, HEADS),
        "encoder.layer.*.attention.output.dense": linear(ATTENDED, RESIDUAL),
        "encoder.layer.*.attention.output.LayerNorm": norm(RESIDUAL, RESIDUAL),
        **feed_forward(
            ("encoder.layer.*.intermediate.dense",), "encoder.layer.*.output.dense", reads=RESIDUAL, writes=RESIDUAL
        ),
        "encoder.layer.*.output.LayerNorm": norm(RESIDUAL, RESIDUAL),
        **_transform("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm"),
        "cls.predictions": {"bias": (Keeps(),)},
        "cls.predictions.decoder": linear(HEAD_INPUT),
        **_transform("lm_predictions.lm_head.dense", "lm_predictions.lm_head.LayerNorm"),
        "lm_predictions.lm_head": {"bias": (Keeps(),)},
        "pooler.dense": linear(RESIDUAL, POOLED),
        "classifier": linear(POOLED),
        "qa_outputs": linear(RESIDUAL),
    },
    laws={**STREAM_LAWS, **FFN_LAWS, **attention_laws()},
    outputs={"hidden_states": RESIDUAL, "last_hidden_state": RESIDUAL},
    epsilon="layer_norm_eps",
    prefixes=("deberta",),
    sizes={
        **standard_sizes(head_dim="attention_head_size"),
        "hidden_size": Size("hidden_size", small=18),  # heads * head_dim, whether or not the config states head_dim
        "embedding_size": Size(
            "embedding_size",
            follows=Times(1, "hidden_size"),
            small=lambda user: (
                user.small["hidden_size"] if user.sizes["embedding_size"] == user.sizes["hidden_size"] else 10
            ),
        ),
        "pooler_hidden_size": Size("pooler_hidden_size", "follows", follows=Times(1, "hidden_size"), small=18),
    },
    for_config=projected,
    constants={"attention_scale": attention_scale},
    positions="learned, relative table",
    refuses=(shared_epsilon("a masked-language-model head", MASKED_HEADS),),
    vouched={
        "hidden_act": None,
        "hidden_dropout_prob": None,
        "attention_probs_dropout_prob": None,
        "pooler_dropout": None,
        "pooler_hidden_act": None,
        "cls_dropout": None,
        "initializer_range": None,
        "type_vocab_size": None,
        "relative_attention": None,
        "max_relative_positions": None,
        "position_biased_input": None,
        "pos_att_type": None,
        "talking_head": None,
        "legacy": None,
        # From other implementations; the class reads none of them.
        **dict.fromkeys(("padding_idx", "pooler")),
    },
    variants={"DebertaForTokenClassification": Variant(modules={"classifier": linear(RESIDUAL)})},
    buffers=("embeddings.position_ids",),
    branches=(
        {},
        {"relative_attention": True, "pos_att_type": "c2p|p2c", "position_biased_input": False},
        {
            "relative_attention": True,
            "pos_att_type": "p2c",
            "type_vocab_size": 2,
            "tie_word_embeddings": False,
            "max_relative_positions": 4,
        },
        {
            "relative_attention": True,
            "pos_att_type": "c2p",
            "talking_head": True,
            "legacy": False,
            "attention_head_size": 64,
        },
        {"relative_attention": True, "pos_att_type": "c2p|p2c", "embedding_size": 128},
    ),
)
