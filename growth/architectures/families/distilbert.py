"""DistilBERT: BERT's post-norm block without segments; the code fixes the norms' epsilon.

Where the config asks for sinusoidal positions, they only initialise the position table, which is
trained and loaded like any other.
"""

from __future__ import annotations

from growth.architectures import (
    FFN_LAWS,
    FINAL,
    HEAD_LAWS,
    POOLED,
    RESIDUAL,
    Architecture,
    Dual,
    LayerNorm,
    Refusal,
    Variant,
    attention,
    attention_laws,
    attention_scale,
    embedding,
    feed_forward,
    linear,
    mlm_transform,
    norm,
    standard_sizes,
    under,
)

_ATTENTION = attention("q_lin", "k_lin", "v_lin", "out_lin", reads=RESIDUAL, writes=RESIDUAL)


_FEED_FORWARD = feed_forward(("lin1",), "lin2", reads=RESIDUAL, writes=RESIDUAL)


DISTILBERT = Architecture(
    model_type="distilbert",
    modules={
        "embeddings.word_embeddings": embedding(RESIDUAL),
        "embeddings.position_embeddings": embedding(RESIDUAL),
        "embeddings.LayerNorm": norm(RESIDUAL, RESIDUAL),
        **under("transformer.layer.*.attention", _ATTENTION),
        "transformer.layer.*.sa_layer_norm": norm(RESIDUAL, RESIDUAL),
        **under("transformer.layer.*.ffn", _FEED_FORWARD),
        "transformer.layer.*.output_layer_norm": norm(RESIDUAL, RESIDUAL),
        **mlm_transform("vocab_transform", "vocab_layer_norm"),
        "vocab_projector": linear(FINAL),
        "pre_classifier": linear(RESIDUAL, POOLED),
        "classifier": linear(POOLED),
        "qa_outputs": linear(RESIDUAL),
    },
    laws={RESIDUAL: LayerNorm(), FINAL: Dual(RESIDUAL), **HEAD_LAWS, **FFN_LAWS, **attention_laws()},
    outputs={"hidden_states": RESIDUAL, "last_hidden_state": RESIDUAL},
    epsilon=1e-12,
    prefixes=("distilbert",),
    sizes=standard_sizes("dim", "hidden_dim", "n_heads"),
    constants={"attention_scale": attention_scale},
    vouched={
        "activation": None,
        "dropout": None,
        "attention_dropout": None,
        "qa_dropout": None,
        "seq_classif_dropout": None,
        "initializer_range": None,
        "sinusoidal_pos_embds": None,
        "tie_weights_": None,
    },
    refuses=(
        Refusal(
            "orthogonal beyond a width of 2",
            "the epsilon that the code fixes is no longer negligible",
            lambda asked: asked.orthogonal and asked.width > 2,
        ),
    ),
    variants={"DistilBertForTokenClassification": Variant(modules={"classifier": linear(RESIDUAL)})},
    buffers=("embeddings.position_ids",),
    branches=({}, {"sinusoidal_pos_embds": True, "activation": "relu", "tie_word_embeddings": False}),
)
