"""Qwen3: Qwen2 with an RMSNorm over the query and over the key of each head."""

from __future__ import annotations

from dataclasses import replace

from growth.architectures import (
    KEY,
    NORMED,
    QUERY,
    RAW_KEY,
    RAW_QUERY,
    RESIDUAL,
    RMSNorm,
    attention,
    norm,
    raw_laws,
    under,
)
from growth.architectures.families.llama import LLAMA, QWEN2

_ATTENTION = attention(
    "q_proj", "k_proj", "v_proj", "o_proj", reads=NORMED, writes=RESIDUAL, query=RAW_QUERY, key=RAW_KEY
)


QWEN3 = replace(
    QWEN2,
    model_type="qwen3",
    modules={
        **LLAMA.modules,
        **under("layers.*.self_attn", _ATTENTION),
        "layers.*.self_attn.q_norm": norm(RAW_QUERY, QUERY),
        "layers.*.self_attn.k_norm": norm(RAW_KEY, KEY),
    },
    laws={**LLAMA.laws, **raw_laws(RMSNorm)},
    vouched={**QWEN2.vouched, "attention_bias": None},
    branches=(
        {"num_key_value_heads": 8, "use_sliding_window": True},
        {"tie_word_embeddings": True, "attention_bias": True},
    ),
)
