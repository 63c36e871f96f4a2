"""BioGPT: pre-norm LayerNorm, learned positions, embeddings times the square root of the width."""

from __future__ import annotations

from typing import Any

from growth.architectures import (
    FFN_LAWS,
    FINAL,
    FIXED_EPSILON,
    NORMED,
    RESIDUAL,
    Architecture,
    Dual,
    LayerNorm,
    Linear,
    Scaled,
    Sizes,
    Space,
    attention,
    attention_laws,
    attention_scale,
    embedding,
    feed_forward,
    linear,
    norm,
    under,
)

EMBEDDED = Space("embedded", "hidden_size")


_ATTENTION = attention("q_proj", "k_proj", "v_proj", "out_proj", reads=NORMED, writes=RESIDUAL)


_FEED_FORWARD = feed_forward(("fc1",), "fc2", reads=NORMED, writes=RESIDUAL)


def _embedding_scale(config: Any, sizes: Sizes) -> float:
    return float(sizes["hidden_size"] ** 0.5) if config.scale_embedding else 1.0


BIOGPT = Architecture(
    model_type="biogpt",
    modules={
        "embed_tokens": embedding(EMBEDDED),
        "embed_positions": embedding(RESIDUAL),
        "layers.*.self_attn_layer_norm": norm(RESIDUAL, NORMED),
        **under("layers.*.self_attn", _ATTENTION),
        "layers.*.final_layer_norm": norm(RESIDUAL, NORMED),
        **under("layers.*", _FEED_FORWARD),
        "layer_norm": norm(RESIDUAL, FINAL),
        "output_projection": linear(FINAL),
        "score": linear(FINAL),
        "classifier": linear(FINAL),
    },
    laws={
        RESIDUAL: LayerNorm(),
        EMBEDDED: Scaled(RESIDUAL, "embedding_scale"),
        NORMED: Linear(RESIDUAL),
        FINAL: Dual(EMBEDDED),
        **FFN_LAWS,
        **attention_laws(),
    },
    outputs={"hidden_states": RESIDUAL, "last_hidden_state": FINAL},
    epsilon=1e-5,
    prefixes=("biogpt",),
    constants={"attention_scale": attention_scale, "embedding_scale": _embedding_scale},
    vouched={
        "hidden_act": None,
        "scale_embedding": None,
        "layer_norm_eps": None,  # the class does not read it
        "hidden_dropout_prob": None,
        "attention_probs_dropout_prob": None,
        "activation_dropout": None,
        "classifier_dropout": None,
        "layerdrop": None,
        "initializer_range": None,
    },
    refuses=(FIXED_EPSILON,),
    branches=({}, {"scale_embedding": False, "tie_word_embeddings": False}),
)
