"""Granite: Llama's block with four multipliers from the config, on embeddings, scores, branches
and logits. None of them depends on the width."""

from __future__ import annotations

from dataclasses import replace

from growth.architectures import no_scale
from growth.architectures.families.llama import LLAMA

GRANITE = replace(
    LLAMA,
    model_type="granite",
    constants={"attention_scale": no_scale},
    vouched={
        **dict.fromkeys(("hidden_act", "attention_bias", "mlp_bias", "attention_dropout", "initializer_range")),
        **dict.fromkeys(("embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling")),
    },
    branches=(
        {"embedding_multiplier": 3.0, "attention_multiplier": 0.3, "residual_multiplier": 0.7, "logits_scaling": 2.0},
        {"num_key_value_heads": 8, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    ),
)
