"""Cohere: pre-norm LayerNorm without biases, attention and feed-forward in parallel on one norm,
rotary pairs (2i, 2i+1).

Command R+ norms queries and keys with one gain per head. In Cohere 2 only the sliding layers have
rotary positions; the maps keep the scores of layers without them too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from growth.architectures import (
    FFN_LAWS,
    FINAL,
    HEADS,
    KEY,
    KV_HEADS,
    NORMED,
    QUERY,
    RAW_KEY,
    RAW_QUERY,
    RESIDUAL,
    Architecture,
    Dual,
    Gain,
    LayerNorm,
    Linear,
    Writes,
    attention,
    attention_laws,
    raw_laws,
    under,
)
from growth.architectures.families.llama import LLAMA

_RAW = attention("q_proj", "k_proj", "v_proj", "o_proj", reads=NORMED, writes=RESIDUAL, query=RAW_QUERY, key=RAW_KEY)


_NORMS = {
    "q_norm": {"weight": (Writes(HEADS), Gain(RAW_QUERY, QUERY))},
    "k_norm": {"weight": (Writes(KV_HEADS), Gain(RAW_KEY, KEY))},
}


def _norms(architecture: Architecture, config: Any) -> Architecture:
    """Query and key norms where the config asks for them: per head, with gains ``[heads,
    head_dim]``."""
    if not config.use_qk_norm:
        return architecture
    own = under("layers.*.self_attn", {**_RAW, **_NORMS})
    return replace(
        architecture, modules={**architecture.modules, **own}, laws={**architecture.laws, **raw_laws(LayerNorm)}
    )


COHERE = replace(
    LLAMA,
    model_type="cohere",
    laws={
        RESIDUAL: LayerNorm(),
        NORMED: Linear(RESIDUAL),
        FINAL: Dual(RESIDUAL),
        **FFN_LAWS,
        **attention_laws(rotary="interleaved"),
    },
    epsilon="layer_norm_eps",
    for_config=_norms,
    vouched={
        **dict.fromkeys(
            ("hidden_act", "attention_bias", "attention_dropout", "initializer_range", "logit_scale", "use_qk_norm")
        ),
        "pretraining_tp": None,
        "layer_norm_bias": (False,),
    },
    branches=(
        {},
        {"num_key_value_heads": 8, "use_qk_norm": True, "attention_bias": True},
        {"tie_word_embeddings": False, "use_qk_norm": True, "logit_scale": 0.8},
    ),
)


COHERE2 = replace(
    COHERE,
    model_type="cohere2",
    for_config=None,
    vouched={
        **dict.fromkeys(
            (
                "hidden_act",
                "attention_bias",
                "attention_dropout",
                "initializer_range",
                "logit_scale",
                "cache_implementation",
            )
        ),
        **dict.fromkeys(("sliding_window", "sliding_window_pattern", "layer_types", "layer_switch")),
        "order_of_interleaved_layers": ("local_attn_first",),
        "position_embedding_type": ("rope_gptj",),
        "rotary_pct": (1.0,),
        "use_qk_norm": (False,),
        **dict.fromkeys(("use_embedding_sharing", "use_gated_activation", "use_parallel_block"), (True,)),
        "use_parallel_embedding": None,
    },
    positions="rotary on sliding layers",
    branches=({}, {"num_key_value_heads": 8, "attention_bias": True, "tie_word_embeddings": False}),
)
