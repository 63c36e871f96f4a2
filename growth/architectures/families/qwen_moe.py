"""Qwen2-MoE: Qwen2's block with experts in some layers. One expert is shared, behind a sigmoid
gate. Qwen3-MoE has no shared expert, and Qwen3's norms of queries and keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from growth.architectures import (
    EXPERT,
    EXPERT_LAWS,
    NORMED,
    RESIDUAL,
    SHARED,
    Size,
    experts,
    feed_forward,
    linear,
    standard_sizes,
    under,
)
from growth.architectures.families.llama import LLAMA, QWEN2
from growth.architectures.families.qwen3 import QWEN3

_FIRST, _SECOND = ("gate_proj", "up_proj"), "down_proj"


_SHARED = feed_forward(_FIRST, _SECOND, reads=NORMED, writes=RESIDUAL, hidden=SHARED)


_ROUTED = {
    "layers.*.mlp.gate": linear(NORMED),
    **experts("layers.*.mlp.experts", _FIRST, _SECOND, reads=NORMED, writes=RESIDUAL),
}


_SIZES = {**standard_sizes(), "moe_intermediate_size": Size("moe_intermediate_size", small=23)}


_VOUCHED = {
    **dict.fromkeys(
        ("num_experts", "num_local_experts", "num_experts_per_tok", "norm_topk_prob", "router_aux_loss_coef")
    ),
    **dict.fromkeys(("decoder_sparse_step", "mlp_only_layers", "output_router_logits")),
}


def _layers(config: Any, layers: int) -> Mapping[str, Any]:
    """One layer with experts and, where the config has any, one without."""
    return {
        "decoder_sparse_step": min(config.decoder_sparse_step, layers),
        "mlp_only_layers": [0] if config.mlp_only_layers else [],
    }


QWEN2_MOE = replace(
    QWEN2,
    model_type="qwen2_moe",
    modules={
        **LLAMA.modules,
        **_ROUTED,
        **under("layers.*.mlp.shared_expert", _SHARED),
        "layers.*.mlp.shared_expert_gate": linear(NORMED),
    },
    laws={**LLAMA.laws, **EXPERT_LAWS},
    sizes={**_SIZES, "shared_expert_intermediate_size": Size("shared_expert_intermediate_size", small=31)},
    vouched={**QWEN2.vouched, **_VOUCHED, "qkv_bias": None},
    twin=_layers,
    branches=(
        {},
        {"num_key_value_heads": 4, "use_sliding_window": True, "max_window_layers": 3, "norm_topk_prob": True},
        {"qkv_bias": False, "mlp_only_layers": [2], "tie_word_embeddings": True},
        {"num_key_value_heads": 1, "head_dim": 64, "decoder_sparse_step": 3},
    ),
)


QWEN3_MOE = replace(
    QWEN3,
    model_type="qwen3_moe",
    modules={**QWEN3.modules, **_ROUTED},
    laws={**QWEN3.laws, EXPERT: EXPERT_LAWS[EXPERT]},
    sizes=_SIZES,
    vouched={
        **QWEN3.vouched,
        **_VOUCHED,
        # From the code it was trained with; the class reads none of them.
        **{"use_qk_norm": (True,), "qkv_bias": (False,), "shared_expert_intermediate_size": (0,)},
    },
    twin=_layers,
    branches=(
        {},
        {"head_dim": 128, "norm_topk_prob": True, "use_sliding_window": True},
        {"num_key_value_heads": 32, "attention_bias": True, "mlp_only_layers": [2], "tie_word_embeddings": True},
        {"num_key_value_heads": 1, "decoder_sparse_step": 3},
    ),
)
