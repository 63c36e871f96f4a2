"""SmolLM3: Llama's block in which some layers (every fourth by default) have no positions. Slots
and pairs keep the scores with and without rotation."""

from __future__ import annotations

from dataclasses import replace

from growth.architectures.families.llama import LLAMA, QWEN2

SMOLLM3 = replace(
    LLAMA,
    model_type="smollm3",
    vouched={
        **LLAMA.vouched,
        **QWEN2.vouched,
        **dict.fromkeys(("no_rope_layers", "no_rope_layer_interval", "pretraining_tp")),
    },
    twin=lambda config, layers: {"no_rope_layers": (sorted(set(config.no_rope_layers)) * layers)[:layers]},
    positions="rotary on most layers",
    branches=(
        {},
        {
            "use_sliding_window": True,
            "sliding_window": 4096,
            "no_rope_layer_interval": 2,
            "tie_word_embeddings": False,
        },
        {"num_key_value_heads": 16, "attention_bias": True, "mlp_bias": True, "no_rope_layers": [1] * 36},
    ),
)
