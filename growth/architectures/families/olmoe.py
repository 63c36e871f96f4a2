"""OLMoE: Llama's block with experts, and one norm over all queries and one over all keys of a
token."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from growth.architectures import (
    FFN,
    NORMED,
    QUERY,
    RESIDUAL,
    ROTARY_SCALING,
    Architecture,
    FixedSize,
    attention,
    clamped_attention,
    experts,
    linear,
    norm,
    under,
)
from growth.architectures.families.olmo2 import OLMO2, RAW

_ATTENTION = attention("q_proj", "k_proj", "v_proj", "o_proj", reads=NORMED, writes=RESIDUAL, **RAW)


_CLIPPED = FixedSize(
    "clip_qkv cuts queries and keys at a fixed size, and in wider heads they are larger", "Use --attention heads."
)


def _for_config(architecture: Architecture, config: Any) -> Architecture:
    if config.clip_qkv is None:
        return architecture
    return replace(architecture, laws={**architecture.laws, QUERY: _CLIPPED})


OLMOE = replace(
    OLMO2,
    model_type="olmoe",
    modules={
        **{name: rule for name, rule in OLMO2.modules.items() if ".mlp." not in name and "layernorm" not in name},
        **under("layers.*.self_attn", _ATTENTION),
        "layers.*.input_layernorm": norm(RESIDUAL, NORMED),
        "layers.*.post_attention_layernorm": norm(RESIDUAL, NORMED),
        "layers.*.mlp.gate": linear(NORMED),
        **experts(
            "layers.*.mlp.experts", ("gate_proj", "up_proj"), "down_proj", reads=NORMED, writes=RESIDUAL, hidden=FFN
        ),
    },
    for_config=_for_config,
    vouched={
        **OLMO2.vouched,
        **dict.fromkeys(
            ("num_experts", "num_experts_per_tok", "norm_topk_prob", "router_aux_loss_coef", "output_router_logits")
        ),
        "clip_qkv": None,
    },
    refuses=(clamped_attention("clip_qkv"), ROTARY_SCALING),
    branches=(
        {},
        {"num_key_value_heads": 4, "attention_bias": True, "norm_topk_prob": True, "tie_word_embeddings": True},
        {"num_key_value_heads": 1, "clip_qkv": 0.8},
    ),
)
