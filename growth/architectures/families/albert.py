"""ALBERT: BERT's post-norm block, shared by all layers (or by groups of layers), behind a
factorised embedding.

Tokens, positions and segments are embedded and normed in a width below hidden_size
(``embedding_size``). A linear map leads into the residual stream. The masked-language-model
transform leads back out of it, so a tied head reads the dual of the embedding width.
"""

from __future__ import annotations

from growth.architectures import (
    FFN_LAWS,
    MASKED_HEADS,
    POOLED,
    RESIDUAL,
    Architecture,
    Copied,
    Dual,
    Keeps,
    Law,
    LayerNorm,
    Rule,
    Size,
    Space,
    Variant,
    attention,
    attention_laws,
    attention_scale,
    embedding,
    feed_forward,
    linear,
    norm,
    shared_epsilon,
    standard_sizes,
    under,
)

EMBEDDED = Space("embedded", "embedding_size")


EMBEDDED_TRANSFORM = Space("transform", "embedding_size")


EMBEDDED_FINAL = Space("final", "embedding_size")


FACTORISED_LAWS: dict[Space, Law] = {
    EMBEDDED: LayerNorm(),
    EMBEDDED_FINAL: Dual(EMBEDDED),
    EMBEDDED_TRANSFORM: LayerNorm(elementwise=True),
    RESIDUAL: LayerNorm(),
    POOLED: Copied("an elementwise function"),
}


FACTORISED_EMBEDDINGS: dict[str, Rule] = {
    "embeddings.word_embeddings": embedding(EMBEDDED),
    "embeddings.position_embeddings": embedding(EMBEDDED),
    "embeddings.token_type_embeddings": embedding(EMBEDDED),
    "embeddings.LayerNorm": norm(EMBEDDED, EMBEDDED),
}


def factorised_transform(dense: str, layer_norm: str) -> dict[str, Rule]:
    """The masked-language-model transform, from the residual stream into the embedding width."""
    return {dense: linear(RESIDUAL, EMBEDDED_TRANSFORM), layer_norm: norm(EMBEDDED_TRANSFORM, EMBEDDED_FINAL)}


_LAYER: dict[str, Rule] = {
    **attention(
        "attention.query", "attention.key", "attention.value", "attention.dense", reads=RESIDUAL, writes=RESIDUAL
    ),
    "attention.LayerNorm": norm(RESIDUAL, RESIDUAL),
    **feed_forward(("ffn",), "ffn_output", reads=RESIDUAL, writes=RESIDUAL),
    "full_layer_layer_norm": norm(RESIDUAL, RESIDUAL),
}


ALBERT = Architecture(
    model_type="albert",
    modules={
        **FACTORISED_EMBEDDINGS,
        "encoder.embedding_hidden_mapping_in": linear(EMBEDDED, RESIDUAL),
        **under("encoder.albert_layer_groups.*.albert_layers.*", _LAYER),
        "pooler": linear(RESIDUAL, POOLED),
        **factorised_transform("predictions.dense", "predictions.LayerNorm"),
        "predictions": {"bias": (Keeps(),)},
        "predictions.decoder": linear(EMBEDDED_FINAL),
        "sop_classifier.classifier": linear(POOLED),
        "classifier": linear(POOLED),
        "qa_outputs": linear(RESIDUAL),
    },
    laws={**FACTORISED_LAWS, **FFN_LAWS, **attention_laws()},
    outputs={"hidden_states": RESIDUAL, "last_hidden_state": RESIDUAL, "pooler_output": POOLED},
    epsilon="layer_norm_eps",
    prefixes=("albert",),
    sizes={**standard_sizes(), "embedding_size": Size("embedding_size", small=13)},
    constants={"attention_scale": attention_scale},
    vouched={
        "hidden_act": None,
        "hidden_dropout_prob": None,
        "attention_probs_dropout_prob": None,
        "classifier_dropout_prob": None,
        "initializer_range": None,
        "type_vocab_size": None,
        "num_hidden_groups": None,
        "inner_group_num": None,
        "position_embedding_type": ("absolute",),
        # From another implementation; the class reads none of them.
        **dict.fromkeys(("down_scale_factor", "gap_size", "net_structure_type", "num_memory_blocks")),
    },
    refuses=(shared_epsilon("a masked-language-model head", MASKED_HEADS),),
    variants={"AlbertForTokenClassification": Variant(modules={"classifier": linear(RESIDUAL)})},
    optional=("pooler.weight", "pooler.bias"),
    buffers=("embeddings.position_ids", "embeddings.token_type_ids"),
    branches=({}, {"num_hidden_groups": 2, "inner_group_num": 2, "hidden_act": "relu", "tie_word_embeddings": False}),
)
