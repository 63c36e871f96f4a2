"""OLMo: Llama's block with layer norms that have no parameters. The code fixes their epsilon at
1e-5, so only activations of the old scale are exact.

A tied head cannot be exact. With A the map of the residual stream, the embedding becomes ``E A'``
(A' is the transpose of A). The logits stay only if ``E A' LN(A x) = E LN(x)`` for every x. With P
the projection that removes the mean, this makes ``A' P A = b P`` and ``b**2 (|Px|**2/n + eps) = b
|Px|**2/m + eps`` for every |Px|, hence b = 1 and m = n.

Where queries and keys are clamped (``clip_qkv``), they must keep their scale, and wider heads need
another one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from growth.architectures import (
    FINAL,
    FIXED_EPSILON,
    KEY,
    NORMED,
    QUERY,
    RESIDUAL,
    ROTARY_SCALING,
    VALUE,
    Architecture,
    Copied,
    FixedSize,
    LayerNorm,
    Normalised,
    Refusal,
    clamped_attention,
)
from growth.architectures.families.llama import LLAMA

_CLAMPED = FixedSize(
    "clip_qkv clamps queries, keys and values alike, while wider heads need the scores scaled by a square root",
    "Use --attention heads, which keeps it.",
)


_TIED = FixedSize(
    "its head is tied to the embedding behind a layer norm without a gain and with a fixed epsilon, so that what the "
    "head reads would have to shrink as the stream grows",
    "Untie the head on the way, by --untie (in Python untie=True), which copies the embedding into lm_head.weight.",
)


def _ties_a_head(config: Any) -> bool:
    has_head = any(name.endswith("ForCausalLM") for name in config.architectures or ())
    return bool(config.tie_word_embeddings) and has_head


def _for_config(architecture: Architecture, config: Any) -> Architecture:
    laws = dict(architecture.laws)
    if _ties_a_head(config):
        laws[RESIDUAL] = _TIED
    if config.clip_qkv is not None:
        laws |= {QUERY: _CLAMPED, KEY: _CLAMPED, VALUE: Copied("a clamp")}
    return replace(architecture, laws=laws)


OLMO = replace(
    LLAMA,
    model_type="olmo",
    laws={**LLAMA.laws, RESIDUAL: LayerNorm(), NORMED: Normalised(RESIDUAL), FINAL: Normalised(RESIDUAL)},
    epsilon=1e-5,
    for_config=_for_config,
    vouched={
        **dict.fromkeys(
            ("hidden_act", "attention_bias", "attention_dropout", "initializer_range", "clip_qkv", "pretraining_tp")
        ),
    },
    twin=lambda config, layers: {} if config.clip_qkv is None else {"clip_qkv": 0.5},
    refuses=(
        Refusal(
            "a tied head",
            "what it reads would have to shrink behind a norm with a fixed epsilon",
            lambda asked: _ties_a_head(asked.config),
        ),
        FIXED_EPSILON,
        clamped_attention("clip_qkv"),
        ROTARY_SCALING,
    ),
    branches=({}, {"num_key_value_heads": 8, "attention_bias": True, "clip_qkv": 0.9}),
)
