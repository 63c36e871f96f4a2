"""ModernBERT: pre-norm LayerNorm, rotary attention on fused ``[q; k; v]``, a gated feed-forward on
fused ``[x; gate]``.

The residual stream starts with a norm of the embedding. The attention of the first layer reads it
without a further norm.
"""

from __future__ import annotations

from growth.architectures import (
    ATTENDED,
    FFN,
    FFN_LAWS,
    FINAL,
    HEAD_LAWS,
    KEYS,
    NORMED,
    QUERIES,
    RESIDUAL,
    ROTARY_SCALING,
    TRANSFORM,
    VALUES,
    Architecture,
    Dual,
    LayerNorm,
    Linear,
    attention_laws,
    attention_scale,
    embedding,
    linear,
    norm,
    shared_epsilon,
)

MODERNBERT = Architecture(
    model_type="modernbert",
    modules={
        "embeddings.tok_embeddings": embedding(RESIDUAL),
        "embeddings.norm": norm(RESIDUAL, RESIDUAL),
        "layers.*.attn_norm": norm(RESIDUAL, NORMED),
        "layers.0.attn.Wqkv": linear(RESIDUAL, QUERIES + KEYS + VALUES),
        "layers.*.attn.Wqkv": linear(NORMED, QUERIES + KEYS + VALUES),
        "layers.*.attn.Wo": linear(ATTENDED, RESIDUAL),
        "layers.*.mlp_norm": norm(RESIDUAL, NORMED),
        "layers.*.mlp.Wi": linear(NORMED, FFN + FFN),
        "layers.*.mlp.Wo": linear(FFN, RESIDUAL),
        "final_norm": norm(RESIDUAL, NORMED),
        "head.dense": linear(NORMED, TRANSFORM),
        "head.norm": norm(TRANSFORM, FINAL),
        "decoder": linear(FINAL),
        "classifier": linear(FINAL),
    },
    laws={
        RESIDUAL: LayerNorm(),
        NORMED: Linear(RESIDUAL),
        FINAL: Dual(RESIDUAL),
        **HEAD_LAWS,
        **FFN_LAWS,
        **attention_laws(rotary="half"),
    },
    outputs={"hidden_states": RESIDUAL, "last_hidden_state": NORMED},
    epsilon="norm_eps",
    prefixes=("model",),
    constants={"attention_scale": attention_scale},
    positions="rotary",
    refuses=(
        shared_epsilon("a head", ("MaskedLM", "Classification", "Answering", "Choice"), "norm_eps"),
        ROTARY_SCALING,
    ),
    vouched={
        "hidden_activation": None,
        "norm_bias": None,
        "attention_bias": None,
        "mlp_bias": None,
        "decoder_bias": None,
        "classifier_bias": None,
        "classifier_activation": None,
        "classifier_pooling": None,
        "classifier_dropout": None,
        "attention_dropout": None,
        "embedding_dropout": None,
        "mlp_dropout": None,
        "layer_types": None,
        "local_attention": None,
        "global_attn_every_n_layers": None,
        "global_rope_theta": None,
        "local_rope_theta": None,
        "cls_token_id": None,
        "initializer_range": None,
        "initializer_cutoff_factor": None,
        "deterministic_flash_attn": None,
        "sparse_prediction": None,
        "sparse_pred_ignore_index": None,
        # From earlier releases; the class reads none of them.
        **dict.fromkeys(("layer_norm_eps", "reference_compile", "repad_logits_with_grad")),
        "position_embedding_type": ("absolute",),
    },
    branches=(
        {},
        {"tie_word_embeddings": False, "classifier_pooling": "mean"},
        {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True, "local_attention": 6},
        {
            "decoder_bias": False,
            "hidden_activation": "silu",
            "classifier_activation": "tanh",
            "layer_types": ["sliding_attention"] * 22,
        },
    ),
)
