"""ERNIE 4.5: Llama's block with rotary pairs (2i, 2i+1)."""

from __future__ import annotations

from dataclasses import replace

from growth.architectures import attention_laws
from growth.architectures.families.llama import LLAMA

ERNIE4_5 = replace(
    LLAMA,
    model_type="ernie4_5",
    laws={**LLAMA.laws, **attention_laws(rotary="interleaved")},
    vouched={
        **dict.fromkeys(("hidden_act", "use_bias", "initializer_range")),
        "compression_ratio": (1.0,),
        "rope_3d": (False,),
    },
    branches=(
        {},
        {"use_bias": True, "num_key_value_heads": 16, "tie_word_embeddings": False},
        {"num_key_value_heads": 1, "head_dim": None},
    ),
)
