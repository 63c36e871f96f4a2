"""Gemma: Llama's block with embeddings times sqrt(hidden_size) and gains of 1 + w.

Gemma 2 norms the output of a sub-layer before adding it, and caps scores and logits with a tanh.
Gemma 3 norms queries and keys instead of capping, and has different rotary frequencies in sliding
and in full layers. Both divide scores by sqrt(query_pre_attn_scalar), a number in the config. A
tied head reads the dual of what the embedding writes, before the multiplication.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from growth.architectures import (
    BRANCH,
    FFN_LAWS,
    FINAL,
    KEY,
    NORMED,
    QUERY,
    RAW_KEY,
    RAW_QUERY,
    RESIDUAL,
    Architecture,
    Dual,
    Law,
    Linear,
    Power,
    RMSNorm,
    Rule,
    Scaled,
    Space,
    attention,
    attention_laws,
    embedding,
    feed_forward,
    linear,
    no_scale,
    norm,
    raw_laws,
    under,
)
from growth.architectures.families.llama import LLAMA

EMBEDDED = Space("embedded", "hidden_size")


_LAWS: Mapping[Space, Law] = {
    RESIDUAL: RMSNorm(),
    EMBEDDED: Scaled(RESIDUAL, "embedding_scale"),
    NORMED: Linear(),
    FINAL: Dual(EMBEDDED),
    **FFN_LAWS,
    **attention_laws(rotary="half"),
}


def _modules(
    writes: Space, norms: Mapping[str, tuple[Space, Space]], query: Space = QUERY, key: Space = KEY
) -> dict[str, Rule]:
    """The modules of embedding, block and heads.

    Args:
        writes: what a sub-layer writes.
        norms: the norms of a block.
        query, key: the axes of the projections inside one head.
    """
    attend = attention("q_proj", "k_proj", "v_proj", "o_proj", reads=NORMED, writes=writes, query=query, key=key)
    feed = feed_forward(("gate_proj", "up_proj"), "down_proj", reads=NORMED, writes=writes)
    return {
        "embed_tokens": embedding(EMBEDDED),
        **under("layers.*.self_attn", attend),
        **under("layers.*.mlp", feed),
        **{f"layers.*.{name}": norm(*spaces, offset=1.0) for name, spaces in norms.items()},
        "norm": norm(RESIDUAL, FINAL, offset=1.0),
        "lm_head": linear(FINAL),
        "score": linear(FINAL),
    }


_PRE = {"input_layernorm": (RESIDUAL, NORMED)}


_AROUND = {
    **_PRE,
    "post_attention_layernorm": (BRANCH, RESIDUAL),
    "pre_feedforward_layernorm": (RESIDUAL, NORMED),
    "post_feedforward_layernorm": (BRANCH, RESIDUAL),
}


_OVER_HEADS = {"self_attn.q_norm": (RAW_QUERY, QUERY), "self_attn.k_norm": (RAW_KEY, KEY)}


_SCALES = {"embedding_scale": Power({"hidden_size": 0.5})}


GEMMA = replace(
    LLAMA,
    model_type="gemma",
    modules=_modules(RESIDUAL, {**_PRE, "post_attention_layernorm": (RESIDUAL, NORMED)}),
    laws=_LAWS,
    constants={**LLAMA.constants, **_SCALES},
    vouched={
        **dict.fromkeys(
            ("hidden_act", "hidden_activation", "attention_bias", "attention_dropout", "initializer_range")
        ),
        "use_bidirectional_attention": None,
        "cache_implementation": None,
    },
    branches=({}, {"num_key_value_heads": 1, "attention_bias": True, "tie_word_embeddings": False}),
)


GEMMA2 = replace(
    GEMMA,
    model_type="gemma2",
    modules=_modules(BRANCH, _AROUND),
    laws={**_LAWS, BRANCH: RMSNorm()},
    constants={"attention_scale": no_scale, **_SCALES},
    vouched={
        **GEMMA.vouched,
        **dict.fromkeys(("query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping")),
        **dict.fromkeys(("sliding_window", "sliding_window_size", "layer_types")),
    },
    branches=(
        {"query_pre_attn_scalar": 3, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
        {
            "num_key_value_heads": 8,
            "attention_bias": True,
            "tie_word_embeddings": False,
            "attn_logit_softcapping": None,
        },
    ),
)


_PER_KIND = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
}


GEMMA3_TEXT: Architecture = replace(
    GEMMA2,
    model_type="gemma3_text",
    modules=_modules(BRANCH, {**_AROUND, **_OVER_HEADS}, RAW_QUERY, RAW_KEY),
    laws={**GEMMA2.laws, **raw_laws(RMSNorm)},
    vouched={**GEMMA2.vouched, "sliding_window_pattern": None, "rope_local_base_freq": None},
    branches=(
        {"query_pre_attn_scalar": 3, "rope_parameters": _PER_KIND},
        {
            "num_key_value_heads": 1,
            "attention_bias": True,
            "tie_word_embeddings": False,
            "use_bidirectional_attention": True,
        },
    ),
)
