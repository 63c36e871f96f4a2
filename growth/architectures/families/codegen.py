"""CodeGen: GPT-J's block. Queries, values and keys are fused in one matrix of four blocks, each
with a quarter of the heads."""

from __future__ import annotations

from dataclasses import replace

from growth.architectures import (
    HEAD_BY_HEAD,
    NORMED,
    PARTIAL_KEY,
    PARTIAL_QUERY,
    RESIDUAL,
    VALUE,
    Architecture,
    Fixed,
    Size,
    Space,
    Times,
    linear,
    quotient,
    small_head_dim,
)
from growth.architectures.families.gptj import GPTJ, SIZES

BLOCKS = 4


LOCAL_HEADS = Space("heads of a block", "local_heads")


CODEGEN: Architecture = replace(
    GPTJ,
    model_type="codegen",
    modules={
        **{name: rule for name, rule in GPTJ.modules.items() if ".attn." not in name},
        "h.*.attn.qkv_proj": linear(
            NORMED, Fixed(BLOCKS) * (LOCAL_HEADS * PARTIAL_QUERY + LOCAL_HEADS * VALUE + LOCAL_HEADS * PARTIAL_KEY)
        ),
        "h.*.attn.out_proj": linear(Fixed(BLOCKS) * LOCAL_HEADS * VALUE, RESIDUAL),
    },
    laws={**GPTJ.laws, LOCAL_HEADS: HEAD_BY_HEAD},
    sizes={
        **SIZES,
        "hidden_size": Size("n_embd", small=lambda user: 12 * small_head_dim(user)),
        "num_attention_heads": Size("n_head", "heads", small=12),
        "num_key_value_heads": Size(follows=Times(1, "num_attention_heads")),
        "local_heads": Size(
            follows=lambda c, s: quotient(c, s["num_attention_heads"], BLOCKS, ("heads", "blocks of them"))
        ),
    },
    buffers=(*GPTJ.buffers, "h.*.attn.causal_mask"),
)
