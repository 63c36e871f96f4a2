"""Phi: pre-norm LayerNorm, attention and feed-forward in parallel on one norm, rotary positions on
a part of each head, biases throughout. One option norms queries and keys head by head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from growth.architectures import (
    FFN_LAWS,
    FINAL,
    NORMED,
    PARTIAL_KEY,
    PARTIAL_QUERY,
    RAW_KEY,
    RAW_QUERY,
    RESIDUAL,
    ROTARY_SCALING,
    Architecture,
    Axis,
    Dual,
    LayerNorm,
    Linear,
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


def _attention(query: Axis, key: Axis) -> dict[str, Rule]:
    names = (f"layers.*.self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "dense"))
    return attention(*names, reads=NORMED, writes=RESIDUAL, query=query, key=key)


def _for_config(architecture: Architecture, config: Any) -> Architecture:
    if not config.qk_layernorm:
        return architecture
    return replace(architecture, modules={**architecture.modules, **_attention(RAW_QUERY, RAW_KEY)})


PHI = Architecture(
    model_type="phi",
    modules={
        "embed_tokens": embedding(RESIDUAL),
        "layers.*.input_layernorm": norm(RESIDUAL, NORMED),
        **_attention(PARTIAL_QUERY, PARTIAL_KEY),
        "layers.*.self_attn.q_layernorm": norm(RAW_QUERY, PARTIAL_QUERY),
        "layers.*.self_attn.k_layernorm": norm(RAW_KEY, PARTIAL_KEY),
        **feed_forward(("layers.*.mlp.fc1",), "layers.*.mlp.fc2", reads=NORMED, writes=RESIDUAL),
        "final_layernorm": norm(RESIDUAL, FINAL),
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
    sizes={**standard_sizes(), **rotary_sizes()},
    for_config=_for_config,
    constants={"attention_scale": attention_scale},
    positions="rotary in part",
    refuses=(ROTARY_SCALING,),
    vouched=dict.fromkeys(("hidden_act", "partial_rotary_factor", "qk_layernorm")),
    buffers=("layers.*.self_attn.rotary_emb.inv_freq",),
    branches=(
        {},
        {"qk_layernorm": True, "num_attention_heads": 8, "num_key_value_heads": 2, "tie_word_embeddings": True},
        {"partial_rotary_factor": 0.4, "qk_layernorm": True},
        {"partial_rotary_factor": 1.0, "qk_layernorm": True},
    ),
)
