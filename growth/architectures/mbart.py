"""mBART: BART's encoder and decoder with pre-norms, and a norm after each stack as well as after the embeddings."""

from dataclasses import replace

from growth.architectures.bart import BART, EMBEDDED, HEADS, STACK_LAWS, TABLES, stack
from growth.architectures.t5 import ENCODED
from growth.following import Dual, Scaled
from growth.law import LayerNorm, Linear
from growth.rules.head import HEAD_LAWS, POOLED
from growth.rules.norm import FINAL, NORMED, RESIDUAL, norm

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
