"""MPNet: BERT's post-norm block without segments, with a table of relative positions per head in
addition to the learned positions."""

from __future__ import annotations

from growth.architectures import (
    FFN_LAWS,
    FINAL,
    HEAD_LAWS,
    HEADS,
    MASKED_HEADS,
    POOLED,
    RESIDUAL,
    Architecture,
    Dual,
    Keeps,
    LayerNorm,
    Variant,
    Writes,
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

_ATTENTION = attention("q", "k", "v", "o", reads=RESIDUAL, writes=RESIDUAL)


_FEED_FORWARD = feed_forward(("intermediate.dense",), "output.dense", reads=RESIDUAL, writes=RESIDUAL)


MPNET = Architecture(
    model_type="mpnet",
    modules={
        "embeddings.word_embeddings": embedding(RESIDUAL),
        "embeddings.position_embeddings": embedding(RESIDUAL),
        "embeddings.LayerNorm": norm(RESIDUAL, RESIDUAL),
        "encoder.relative_attention_bias": {"weight": (Keeps(), Writes(HEADS))},
        **under("encoder.layer.*.attention.attn", _ATTENTION),
        "encoder.layer.*.attention.LayerNorm": norm(RESIDUAL, RESIDUAL),
        **under("encoder.layer.*", _FEED_FORWARD),
        "encoder.layer.*.output.LayerNorm": norm(RESIDUAL, RESIDUAL),
        "pooler.dense": linear(RESIDUAL, POOLED),
        **mlm_transform("lm_head.dense", "lm_head.layer_norm"),
        "lm_head": {"bias": (Keeps(),)},
        "lm_head.decoder": linear(FINAL),
        "classifier.dense": linear(RESIDUAL, POOLED),
        "classifier.out_proj": linear(POOLED),
        "classifier": linear(RESIDUAL),
        "qa_outputs": linear(RESIDUAL),
    },
    laws={RESIDUAL: LayerNorm(), FINAL: Dual(RESIDUAL), **HEAD_LAWS, **FFN_LAWS, **attention_laws()},
    outputs={"hidden_states": RESIDUAL, "last_hidden_state": RESIDUAL, "pooler_output": POOLED},
    epsilon="layer_norm_eps",
    prefixes=("mpnet",),
    constants={"attention_scale": attention_scale},
    vouched={
        "hidden_act": None,
        "hidden_dropout_prob": None,
        "attention_probs_dropout_prob": None,
        "initializer_range": None,
        "relative_attention_num_buckets": None,
    },
    positions="learned, relative table",
    refuses=(shared_epsilon("a masked-language-model head", MASKED_HEADS),),
    variants={"MPNetForMultipleChoice": Variant(modules={"classifier": linear(POOLED)})},
    optional=("pooler.dense.weight", "pooler.dense.bias"),
    buffers=("embeddings.position_ids",),
    branches=({}, {"hidden_act": "relu", "tie_word_embeddings": False}),
)
