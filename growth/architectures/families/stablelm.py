"""StableLM: pre-norm LayerNorm, rotary positions on a part of each head, gated feed-forward after
attention or in parallel with it. With the option ``qk_layernorm`` each head has its norm
modules for queries and keys, so the number of heads cannot grow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from growth.architectures import (
    FFN_LAWS,
    FINAL,
    KV_HEADS,
    NORMED,
    PARTIAL_KEY,
    PARTIAL_QUERY,
    QUERIES_PER_KV,
    RAW_KEY,
    RAW_QUERY,
    RESIDUAL,
    ROTARY_SCALING,
    Architecture,
    Axis,
    Dual,
    FixedSize,
    LayerNorm,
    Linear,
    Refusal,
    Rule,
    attention,
    attention_laws,
    attention_scale,
    embedding,
    feed_forward,
    linear,
    norm,
    raw_laws,
    rotary_sizes,
    standard_sizes,
)

_NO_NEW_HEADS = FixedSize(
    "each head has its own norm module, and a new head would have none", "Use --attention head-dim."
)


def _attention(query: Axis, key: Axis) -> dict[str, Rule]:
    names = (f"layers.*.self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj"))
    return attention(*names, reads=NORMED, writes=RESIDUAL, query=query, key=key)


def _for_config(architecture: Architecture, config: Any) -> Architecture:
    if not config.qk_layernorm:
        return architecture
    modules = {**architecture.modules, **_attention(RAW_QUERY, RAW_KEY)}
    return replace(
        architecture,
        modules=modules,
        laws={**architecture.laws, KV_HEADS: _NO_NEW_HEADS, QUERIES_PER_KV: _NO_NEW_HEADS},
    )


STABLELM = Architecture(
    model_type="stablelm",
    modules={
        "embed_tokens": embedding(RESIDUAL),
        "layers.*.input_layernorm": norm(RESIDUAL, NORMED),
        **_attention(PARTIAL_QUERY, PARTIAL_KEY),
        "layers.*.self_attn.q_layernorm.norms.*": norm(RAW_QUERY, PARTIAL_QUERY),
        "layers.*.self_attn.k_layernorm.norms.*": norm(RAW_KEY, PARTIAL_KEY),
        "layers.*.post_attention_layernorm": norm(RESIDUAL, NORMED),
        **feed_forward(
            ("layers.*.mlp.gate_proj", "layers.*.mlp.up_proj"), "layers.*.mlp.down_proj", reads=NORMED, writes=RESIDUAL
        ),
        "norm": norm(RESIDUAL, FINAL),
        "lm_head": linear(FINAL),
        "score": linear(FINAL),
    },
    laws={
        RESIDUAL: LayerNorm(),
        NORMED: Linear(RESIDUAL),
        FINAL: Dual(RESIDUAL),
        **FFN_LAWS,
        **attention_laws(rotary="half", partial=True),
        **raw_laws(LayerNorm, PARTIAL_QUERY, PARTIAL_KEY),
    },
    outputs={"hidden_states": RESIDUAL, "last_hidden_state": FINAL},
    epsilon="layer_norm_eps",
    prefixes=("model",),
    old_classes={"StableLMEpochForCausalLM": "StableLmForCausalLM"},
    sizes={**standard_sizes(), **rotary_sizes()},
    for_config=_for_config,
    constants={"attention_scale": attention_scale},
    positions="rotary in part",
    refuses=(
        Refusal(
            "heads with qk_layernorm",
            "each head has a norm module of its own",
            lambda asked: asked.config.qk_layernorm and not asked.wider_heads,
        ),
        ROTARY_SCALING,
    ),
    vouched=dict.fromkeys(
        ("hidden_act", "partial_rotary_factor", "qk_layernorm", "use_parallel_residual", "use_qkv_bias")
    ),
    buffers=("layers.*.self_attn.rotary_emb.inv_freq",),
    branches=(
        {},
        {"use_parallel_residual": True, "use_qkv_bias": True, "num_key_value_heads": 8, "tie_word_embeddings": True},
        {"qk_layernorm": True, "use_parallel_residual": True, "num_key_value_heads": 8},
        {"partial_rotary_factor": 1.0, "qk_layernorm": True, "hidden_act": "gelu"},
    ),
)
