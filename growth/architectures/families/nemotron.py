"""Nemotron: pre-norm LayerNorm with gain 1 + weight, rotary positions on a part of each head, a
squared ReLU without a gate."""

from __future__ import annotations

from dataclasses import replace

from growth.architectures import (
    FFN_LAWS,
    FINAL,
    NORMED,
    PARTIAL_KEY,
    PARTIAL_QUERY,
    RESIDUAL,
    Dual,
    LayerNorm,
    Linear,
    attention,
    attention_laws,
    norm,
    rotary_sizes,
    standard_sizes,
    under,
)
from growth.architectures.families.llama import LLAMA

_ATTENTION = attention(
    "q_proj", "k_proj", "v_proj", "o_proj", reads=NORMED, writes=RESIDUAL, query=PARTIAL_QUERY, key=PARTIAL_KEY
)


NEMOTRON = replace(
    LLAMA,
    model_type="nemotron",
    modules={
        **{name: rule for name, rule in LLAMA.modules.items() if not name.endswith("gate_proj")},
        **under("layers.*.self_attn", _ATTENTION),
        "layers.*.input_layernorm": norm(RESIDUAL, NORMED, offset=1.0),
        "layers.*.post_attention_layernorm": norm(RESIDUAL, NORMED, offset=1.0),
        "norm": norm(RESIDUAL, FINAL, offset=1.0),
    },
    laws={
        **{RESIDUAL: LayerNorm(), NORMED: Linear(RESIDUAL), FINAL: Dual(RESIDUAL)},
        **FFN_LAWS,
        **attention_laws(rotary="half", partial=True),
    },
    epsilon="norm_eps",
    sizes={**standard_sizes(), **rotary_sizes()},
    positions="rotary in part",
    vouched={
        **dict.fromkeys(("hidden_act", "attention_bias", "mlp_bias", "partial_rotary_factor")),
        "rope_percent": (0.5,),
    },
    branches=(
        {"num_key_value_heads": 48},
        {
            "num_key_value_heads": 8,
            "attention_bias": True,
            "mlp_bias": True,
            "tie_word_embeddings": True,
            "partial_rotary_factor": 0.25,
        },
        {"num_key_value_heads": 1, "head_dim": 96, "hidden_act": "silu", "partial_rotary_factor": 1.0},
    ),
)
