"""GLM: Llama's block with gate and up-projection fused in one matrix, and rotary pairs (2i, 2i+1)
in the first part of each head.

GLM-4-0414 also norms the output of a sub-layer before adding it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from growth.architectures import (
    BRANCH,
    FFN,
    FFN_LAWS,
    FINAL,
    NORMED,
    PARTIAL_KEY,
    PARTIAL_QUERY,
    RESIDUAL,
    Axis,
    Dual,
    Linear,
    RMSNorm,
    Rule,
    attention,
    attention_laws,
    linear,
    norm,
    rotary_sizes,
    standard_sizes,
    under,
)
from growth.architectures.families.llama import LLAMA


def _modules(writes: Axis) -> Mapping[str, Rule]:
    """All modules; ``writes`` is what a sub-layer writes."""
    attend = attention(
        "q_proj", "k_proj", "v_proj", "o_proj", reads=NORMED, writes=writes, query=PARTIAL_QUERY, key=PARTIAL_KEY
    )
    return {
        **under("layers.*.self_attn", attend),
        "layers.*.mlp.gate_up_proj": linear(NORMED, FFN + FFN),
        "layers.*.mlp.down_proj": linear(FFN, writes),
    }


GLM = replace(
    LLAMA,
    model_type="glm",
    modules={**LLAMA.modules, **_modules(RESIDUAL)},
    laws={
        **{RESIDUAL: RMSNorm(), NORMED: Linear(), FINAL: Dual(RESIDUAL)},
        **FFN_LAWS,
        **attention_laws(rotary="interleaved", partial=True),
    },
    sizes={**standard_sizes(), **rotary_sizes()},
    vouched=dict.fromkeys(
        ("hidden_act", "attention_bias", "attention_dropout", "initializer_range", "partial_rotary_factor")
    ),
    positions="rotary in part",
    branches=(
        {},
        {
            "num_key_value_heads": 32,
            "attention_bias": False,
            "tie_word_embeddings": True,
            "partial_rotary_factor": 0.25,
        },
        {"num_key_value_heads": 1, "partial_rotary_factor": 1.0},
    ),
)


GLM4 = replace(
    GLM,
    model_type="glm4",
    modules={
        **GLM.modules,
        **_modules(BRANCH),
        "layers.*.post_self_attn_layernorm": norm(BRANCH, RESIDUAL),
        "layers.*.post_mlp_layernorm": norm(BRANCH, RESIDUAL),
    },
    laws={**GLM.laws, BRANCH: RMSNorm()},
)
