"""mBART: BART's encoder and decoder with pre-norms, and a norm after the embeddings and after each
stack."""

from __future__ import annotations

from dataclasses import replace

from growth.architectures import FINAL, HEAD_LAWS, NORMED, POOLED, RESIDUAL, Dual, LayerNorm, Linear, Scaled, norm
from growth.architectures.families.bart import BART, EMBEDDED, HEADS, STACK_LAWS, TABLES, stack
from growth.architectures.families.t5 import ENCODED

PRE_NORM = {
    **stack("encoder", NORMED, ENCODED),
    **stack("decoder", NORMED, ENCODED),
    "encoder.layer_norm": norm(RESIDUAL, ENCODED),
    "decoder.layer_norm": norm(RESIDUAL, FINAL),
}


PRE_NORM_LAWS = {
    RESIDUAL: LayerNorm(),
    NORMED: Linear(RESIDUAL),
    ENCODED: Linear(RESIDUAL),
    EMBEDDED: Scaled(RESIDUAL, "embedding_scale"),
    FINAL: Dual(EMBEDDED),
    POOLED: HEAD_LAWS[POOLED],
    **STACK_LAWS,
}


MBART = replace(
    BART,
    model_type="mbart",
    modules={
        **TABLES,
        **dict.fromkeys(("encoder.layernorm_embedding", "decoder.layernorm_embedding"), norm(RESIDUAL, RESIDUAL)),
        **PRE_NORM,
        **HEADS,
    },
    laws=PRE_NORM_LAWS,
    outputs={**BART.outputs, "encoder_last_hidden_state": ENCODED},
    for_config=None,
    vouched={**BART.vouched, "normalize_before": (True,), "add_final_layer_norm": (True,)},
)
