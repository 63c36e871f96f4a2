"""OLMo 2: Llama's block with a norm on the output of each sub-layer instead of its input, and one
norm over all queries and one over all keys of a token."""

from __future__ import annotations

from dataclasses import replace

from growth.architectures import (
    BRANCH,
    KEYS,
    QUERIES,
    RAW_HEADS,
    RAW_KEY,
    RAW_KV_HEADS,
    RAW_QUERY,
    RESIDUAL,
    RMSNorm,
    attention,
    feed_forward,
    norm,
    raw_laws,
    under,
)
from growth.architectures.families.llama import LLAMA

RAW = {"query": RAW_QUERY, "key": RAW_KEY, "heads": RAW_HEADS, "kv_heads": RAW_KV_HEADS}
"""Queries and keys before their norms."""


_ATTENTION = attention("q_proj", "k_proj", "v_proj", "o_proj", reads=RESIDUAL, writes=BRANCH, **RAW)


_FEED_FORWARD = feed_forward(("gate_proj", "up_proj"), "down_proj", reads=RESIDUAL, writes=BRANCH)


OLMO2 = replace(
    LLAMA,
    model_type="olmo2",
    modules={
        **{
            name: rule
            for name, rule in LLAMA.modules.items()
            if name not in ("layers.*.input_layernorm", "qa_outputs")
        },
        **under("layers.*.self_attn", _ATTENTION),
        "layers.*.self_attn.q_norm": norm(RAW_HEADS * RAW_QUERY, QUERIES),
        "layers.*.self_attn.k_norm": norm(RAW_KV_HEADS * RAW_KEY, KEYS),
        **under("layers.*.mlp", _FEED_FORWARD),
        "layers.*.post_attention_layernorm": norm(BRANCH, RESIDUAL),
        "layers.*.post_feedforward_layernorm": norm(BRANCH, RESIDUAL),
    },
    laws={**LLAMA.laws, BRANCH: RMSNorm(), **raw_laws(RMSNorm)},
    vouched=dict.fromkeys(("hidden_act", "attention_bias", "attention_dropout", "initializer_range")),
    branches=({}, {"num_key_value_heads": 8, "attention_bias": True, "tie_word_embeddings": True}),
)
