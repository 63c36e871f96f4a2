"""GPT-OSS: Llama's block with experts stored as ``[expert, in, out]``, gate and up-projection
alternating, with biases.

The softmax of every head has one further logit, its sink, which attends to nothing. The gate and
its product are clamped coordinate by coordinate, as elementwise functions are.
"""

from __future__ import annotations

from dataclasses import replace

from growth.architectures import FFN, HEADS, NORMED, RESIDUAL, Fixed, Keeps, Reads, Writes, linear
from growth.architectures.families.llama import LLAMA

_GATE_UP = FFN * Fixed(2)


GPT_OSS = replace(
    LLAMA,
    model_type="gpt_oss",
    modules={
        **{name: rule for name, rule in LLAMA.modules.items() if ".mlp." not in name},
        "layers.*.self_attn": {"sinks": (Writes(HEADS),)},
        "layers.*.mlp.router": linear(NORMED),
        "layers.*.mlp.experts": {
            "gate_up_proj": (Keeps(), Reads(NORMED), Writes(_GATE_UP)),
            "gate_up_proj_bias": (Keeps(), Writes(_GATE_UP)),
            "down_proj": (Keeps(), Reads(FFN), Writes(RESIDUAL)),
            "down_proj_bias": (Keeps(), Writes(RESIDUAL)),
        },
    },
    vouched={
        **dict.fromkeys(
            ("hidden_act", "attention_bias", "attention_dropout", "initializer_range", "sliding_window", "layer_types")
        ),
        **dict.fromkeys(("num_local_experts", "num_experts_per_tok", "router_aux_loss_coef", "output_router_logits")),
        **dict.fromkeys(("swiglu_alpha", "swiglu_limit")),
        # From another implementation; the class reads none of them.
        **dict.fromkeys(("experts_per_token", "initial_context_length")),
    },
    branches=(
        {},
        {"swiglu_limit": 0.7},
        {
            "num_key_value_heads": 64,
            "attention_bias": False,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default"},
        },
        {
            "num_key_value_heads": 1,
            "num_hidden_layers": 1,
            "layer_types": ["full_attention"],
            "rope_parameters": {"rope_type": "default"},
        },
    ),
)
