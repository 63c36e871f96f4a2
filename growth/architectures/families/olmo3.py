"""OLMo 3: OLMo 2 with a sliding window in most layers, and different rotary frequencies for each
kind of layer. Neither depends on the width."""

from __future__ import annotations

from dataclasses import replace

from growth.architectures.families.olmo2 import OLMO2

_PER_KIND = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 500_000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
}


OLMO3 = replace(
    OLMO2,
    model_type="olmo3",
    vouched={**OLMO2.vouched, "sliding_window": None, "layer_types": None},
    branches=(
        {},
        {"num_key_value_heads": 8, "attention_bias": True, "tie_word_embeddings": True, "hidden_act": "gelu"},
        {"num_key_value_heads": 1, "rope_parameters": _PER_KIND},
    ),
)
