"""BLOOM: pre-norm LayerNorm, ALiBi, ``[q; k; v]`` fused head by head.

A norm follows the embedding. What enters it is a further space, whose dual a tied head reads. One
config option adds to the output of each norm instead of its input, so that the output of a norm is
the residual stream.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from growth.architectures import (
    ALIBI_ATTENDED,
    ALIBI_QKV,
    FFN_LAWS,
    FINAL,
    NORMED,
    RESIDUAL,
    Architecture,
    Dual,
    LayerNorm,
    Linear,
    Space,
    alibi_laws,
    attention_scale,
    embedding,
    feed_forward,
    linear,
    norm,
    standard_sizes,
)

EMBEDDED = Space("embedded", "hidden_size")


_NORMS = ("h.*.input_layernorm", "h.*.post_attention_layernorm")


_SIZES = standard_sizes("hidden_size", "", "n_head", "", "", intermediate_ratio=4)


def _for_config(architecture: Architecture, config: Any) -> Architecture:
    if not config.apply_residual_connection_post_layernorm:
        return architecture
    modules = {
        **architecture.modules,
        **dict.fromkeys(_NORMS, norm(RESIDUAL, RESIDUAL)),
        "h.*.self_attention.query_key_value": linear(RESIDUAL, ALIBI_QKV),
        "h.*.mlp.dense_h_to_4h": feed_forward(("in",), "out", reads=RESIDUAL, writes=RESIDUAL)["in"],
    }
    return replace(architecture, modules=modules)


BLOOM = Architecture(
    model_type="bloom",
    modules={
        "word_embeddings": embedding(EMBEDDED),
        "word_embeddings_layernorm": norm(EMBEDDED, RESIDUAL),
        **dict.fromkeys(_NORMS, norm(RESIDUAL, NORMED)),
        "h.*.self_attention.query_key_value": linear(NORMED, ALIBI_QKV),
        "h.*.self_attention.dense": linear(ALIBI_ATTENDED, RESIDUAL),
        **feed_forward(("h.*.mlp.dense_h_to_4h",), "h.*.mlp.dense_4h_to_h", reads=NORMED, writes=RESIDUAL),
        "ln_f": norm(RESIDUAL, FINAL),
        "lm_head": linear(FINAL),
        "score": linear(FINAL),
        "classifier": linear(FINAL),
        "qa_outputs": linear(FINAL),
    },
    laws={
        EMBEDDED: LayerNorm(),
        RESIDUAL: LayerNorm(),
        NORMED: Linear(RESIDUAL),
        FINAL: Dual(EMBEDDED),
        **FFN_LAWS,
        **alibi_laws(),
    },
    outputs={"hidden_states": RESIDUAL, "last_hidden_state": FINAL},
    epsilon="layer_norm_epsilon",
    prefixes=("transformer",),
    sizes={**_SIZES, "hidden_size": replace(_SIZES["hidden_size"], old_names=("n_embed",))},
    for_config=_for_config,
    constants={"attention_scale": attention_scale},
    positions="ALiBi",
    vouched={
        "apply_residual_connection_post_layernorm": None,
        **dict.fromkeys(("pretraining_tp", "slow_but_exact")),  # the number of parts in which one sum is taken
        # From the implementation it was trained with; the class reads none of them.
        **dict.fromkeys(
            ("attention_softmax_in_fp32", "masked_softmax_fusion", "offset_alibi", "seq_length", "n_inner")
        ),
        **dict.fromkeys(("skip_bias_add", "skip_bias_add_qkv", "unk_token_id")),
    },
    branches=(
        {},
        {"apply_residual_connection_post_layernorm": True},
        {"tie_word_embeddings": False, "pretraining_tp": 2, "slow_but_exact": True},
    ),
)
