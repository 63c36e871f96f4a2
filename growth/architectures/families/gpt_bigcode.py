"""GPT-BigCode: GPT-2's block with linear layers, and one key and value head for all queries or
``[q; k; v]`` fused head by head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from growth.architectures import (
    ATTENDED,
    HEADS,
    KEY,
    KEYS,
    NORMED,
    QUERIES,
    QUERY,
    RESIDUAL,
    VALUE,
    VALUES,
    Architecture,
    Size,
    Times,
    feed_forward,
    linear,
    under,
)
from growth.architectures.families.gpt2 import GPT2

_FEED_FORWARD = feed_forward(("c_fc",), "c_proj", reads=NORMED, writes=RESIDUAL)


def _key_value_heads(architecture: Architecture, config: Any) -> Architecture:
    """``[q; k; v]`` with k and v of one head for all queries, or ``[q; k; v]`` head by head."""
    if config.multi_query:
        kv_heads = Size("num_key_value_heads", "follows", follows=Times(1), small=1)
        return replace(architecture, sizes={**architecture.sizes, "num_key_value_heads": kv_heads})
    fused = linear(NORMED, HEADS * (QUERY + KEY + VALUE))
    return replace(architecture, modules={**architecture.modules, "h.*.attn.c_attn": fused})


GPT_BIGCODE = replace(
    GPT2,
    model_type="gpt_bigcode",
    modules={
        **{
            name: rule
            for name, rule in GPT2.modules.items()
            if not name.startswith(("h.*.attn", "h.*.mlp", "multiple_choice"))
        },
        "h.*.attn.c_attn": linear(NORMED, QUERIES + KEYS + VALUES),
        "h.*.attn.c_proj": linear(ATTENDED, RESIDUAL),
        **under("h.*.mlp", _FEED_FORWARD),
    },
    for_config=_key_value_heads,
    vouched={
        **dict.fromkeys(
            (
                "activation_function",
                "scale_attn_weights",
                "resid_pdrop",
                "embd_pdrop",
                "attn_pdrop",
                "initializer_range",
            )
        ),
        **dict.fromkeys(("multi_query", "attention_softmax_in_fp32", "scale_attention_softmax_in_fp32")),
        # Of other implementations; the class reads none of them.
        **dict.fromkeys(
            (
                "summary_activation",
                "summary_first_dropout",
                "summary_proj_to_labels",
                "summary_type",
                "summary_use_proj",
            )
        ),
        **dict.fromkeys(
            ("inference_runner", "max_batch_size", "pad_key_length", "pre_allocate_kv_cache", "validate_runner_input")
        ),
    },
    arithmetic={},
    branches=({}, {"multi_query": False, "n_inner": 77}, {"scale_attn_weights": False, "tie_word_embeddings": False}),
)
