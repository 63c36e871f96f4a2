"""Phi-3 and Phi-4: Llama's block with ``[q; k; v]`` and ``[gate; up]`` fused. Rotary positions may
cover a part of each head and have a factor per frequency."""

from __future__ import annotations

from growth.architectures import (
    ATTENDED,
    FFN,
    FFN_LAWS,
    FINAL,
    HEADS,
    KV_HEADS,
    NORMED,
    PARTIAL_KEY,
    PARTIAL_QUERY,
    RESIDUAL,
    VALUES,
    Architecture,
    Dual,
    Linear,
    RMSNorm,
    TwinFields,
    attention_laws,
    attention_scale,
    embedding,
    linear,
    norm,
    rotary_sizes,
    standard_sizes,
)

PHI3 = Architecture(
    model_type="phi3",
    modules={
        "embed_tokens": embedding(RESIDUAL),
        "layers.*.input_layernorm": norm(RESIDUAL, NORMED),
        "layers.*.self_attn.qkv_proj": linear(NORMED, HEADS * PARTIAL_QUERY + KV_HEADS * PARTIAL_KEY + VALUES),
        "layers.*.self_attn.o_proj": linear(ATTENDED, RESIDUAL),
        "layers.*.post_attention_layernorm": norm(RESIDUAL, NORMED),
        "layers.*.mlp.gate_up_proj": linear(NORMED, FFN + FFN),
        "layers.*.mlp.down_proj": linear(FFN, RESIDUAL),
        "norm": norm(RESIDUAL, FINAL),
        "lm_head": linear(FINAL),
        "score": linear(FINAL),
    },
    laws={
        RESIDUAL: RMSNorm(),
        NORMED: Linear(),
        FINAL: Dual(RESIDUAL),
        **FFN_LAWS,
        **attention_laws(rotary="half", partial=True),
    },
    outputs={"hidden_states": RESIDUAL, "last_hidden_state": FINAL},
    epsilon="rms_norm_eps",
    prefixes=("model",),
    sizes={**standard_sizes(), **rotary_sizes()},
    constants={"attention_scale": attention_scale},
    positions="rotary, whole or in part",
    twin=TwinFields({"original_max_position_embeddings": 8}),
    vouched={
        **dict.fromkeys(("hidden_act", "sliding_window", "original_max_position_embeddings", "partial_rotary_factor")),
        # From the implementation it was trained with; the class reads none of them.
        **dict.fromkeys(("attention_bias", "mlp_bias", "lm_head_bias"), (False,)),
        **dict.fromkeys(("full_attn_mod", "interpolate_factor"), (1,)),
    },
    buffers=("layers.*.self_attn.rotary_emb.inv_freq",),
    branches=(
        {},
        {
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "hidden_size": 64,
            "tie_word_embeddings": True,
            "sliding_window": 2047,
            "original_max_position_embeddings": 4096,
            "max_position_embeddings": 131072,
            "partial_rotary_factor": 0.75,
            "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.1, 1.3], "long_factor": [1.2, 2.9, 7.0]},
        },
        {"partial_rotary_factor": 0.5},
    ),
)
