"""BERT: post-norm LayerNorm, learned positions. The output of each norm is the residual stream, so
one space enters and leaves each norm."""

from __future__ import annotations

from growth.architectures import (
    FFN_LAWS,
    FINAL,
    HEAD_LAWS,
    MASKED_HEADS,
    POOLED,
    RESIDUAL,
    Architecture,
    Axis,
    Dual,
    Keeps,
    LayerNorm,
    Rule,
    Variant,
    attention,
    attention_laws,
    attention_scale,
    embedding,
    feed_forward,
    linear,
    mlm_transform,
    norm,
    shared_epsilon,
    under,
)


def _layer(stream: Axis) -> dict[str, Rule]:
    return {
        **attention(
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
            reads=stream,
            writes=stream,
        ),
        "attention.output.LayerNorm": norm(RESIDUAL, RESIDUAL),
        **feed_forward(("intermediate.dense",), "output.dense", reads=stream, writes=stream),
        "output.LayerNorm": norm(RESIDUAL, RESIDUAL),
    }


ENCODER: dict[str, Rule] = {
    "embeddings.word_embeddings": embedding(RESIDUAL),
    "embeddings.position_embeddings": embedding(RESIDUAL),
    "embeddings.token_type_embeddings": embedding(RESIDUAL),
    "embeddings.LayerNorm": norm(RESIDUAL, RESIDUAL),
    **under("encoder.layer.*", _layer(RESIDUAL)),
    "pooler.dense": linear(RESIDUAL, POOLED),
    "qa_outputs": linear(RESIDUAL),
}


BERT = Architecture(
    model_type="bert",
    modules={
        **ENCODER,
        **mlm_transform("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm"),
        "cls.predictions": {"bias": (Keeps(),)},
        "cls.predictions.decoder": linear(FINAL),
        "cls.seq_relationship": linear(POOLED),
        "classifier": linear(POOLED),
    },
    laws={RESIDUAL: LayerNorm(), FINAL: Dual(RESIDUAL), **HEAD_LAWS, **FFN_LAWS, **attention_laws()},
    outputs={"hidden_states": RESIDUAL, "last_hidden_state": RESIDUAL, "pooler_output": POOLED},
    epsilon="layer_norm_eps",
    prefixes=("bert",),
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
        # From another implementation; the class reads none of them.
        **dict.fromkeys(
            (
                "directionality",
                "pooler_fc_size",
                "pooler_num_attention_heads",
                "pooler_num_fc_layers",
                "pooler_size_per_head",
            )
        ),
        **dict.fromkeys(("emb_size", "embedding_size")),
        "pooler_type": ("first_token_transform",),
    },
    refuses=(shared_epsilon("a masked-language-model head", MASKED_HEADS),),
    variants={"BertForTokenClassification": Variant(modules={"classifier": linear(RESIDUAL)})},
    optional=("pooler.dense.weight", "pooler.dense.bias"),
    buffers=("embeddings.position_ids", "embeddings.token_type_ids"),
    branches=({}, {"tie_word_embeddings": False, "hidden_act": "relu"}, {"is_decoder": True}),
)
