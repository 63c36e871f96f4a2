"""Mixtral: Mistral's block with experts as its feed-forward layer. GraniteMoE: Granite's block,
with all experts of a layer in one tensor per direction."""

from __future__ import annotations

from dataclasses import replace

from growth.architectures import FFN, NORMED, RESIDUAL, Keeps, Reads, Writes, experts, linear
from growth.architectures.families.granite import GRANITE
from growth.architectures.families.llama import MISTRAL

_DENSE = {name: rule for name, rule in MISTRAL.modules.items() if ".mlp." not in name}


_COUNTS = ("num_local_experts", "num_experts_per_tok", "router_aux_loss_coef", "output_router_logits")


MIXTRAL = replace(
    MISTRAL,
    model_type="mixtral",
    modules={
        **_DENSE,
        "layers.*.block_sparse_moe.gate": linear(NORMED),
        **experts("layers.*.block_sparse_moe.experts", ("w1", "w3"), "w2", reads=NORMED, writes=RESIDUAL, hidden=FFN),
    },
    vouched={**MISTRAL.vouched, **dict.fromkeys((*_COUNTS, "router_jitter_noise"))},
    branches=(
        {},
        {"sliding_window": 4096},
        {"num_key_value_heads": 32, "tie_word_embeddings": True},
        {"head_dim": 64},
    ),
)


GRANITEMOE = replace(
    GRANITE,
    model_type="granitemoe",
    modules={
        **_DENSE,
        "layers.*.block_sparse_moe.router.layer": linear(NORMED),
        "layers.*.block_sparse_moe.input_linear": {"weight": (Keeps(), Writes(FFN + FFN), Reads(NORMED))},
        "layers.*.block_sparse_moe.output_linear": {"weight": (Keeps(), Writes(RESIDUAL), Reads(FFN))},
    },
    vouched={**GRANITE.vouched, **dict.fromkeys(_COUNTS)},
    branches=(
        {},
        {"embedding_multiplier": 3.0, "attention_multiplier": 0.3, "residual_multiplier": 0.7, "logits_scaling": 2.0},
        {"num_key_value_heads": 8, "attention_bias": True, "tie_word_embeddings": True},
        {"num_key_value_heads": 1},
    ),
)
