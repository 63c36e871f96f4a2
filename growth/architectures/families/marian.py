"""Marian: BART without the norms after the embeddings, and with sinusoidal position tables that a
checkpoint may hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from growth.architectures import FINAL, RESIDUAL, Architecture, UnsupportedModelError, norm
from growth.architectures.families.bart import BART, HEADS, TABLES, stack
from growth.architectures.families.pegasus import POSITIONS


def _last_norm(architecture: Architecture, config: Any) -> Architecture:
    """The last norm of the decoder leaves into FINAL."""
    if not config.decoder_layers:
        raise UnsupportedModelError(
            "a decoder without layers has no norm before its head. Check decoder_layers in config.json."
        )
    last = f"decoder.layers.{config.decoder_layers - 1}.final_layer_norm"
    return replace(architecture, modules={**architecture.modules, last: norm(RESIDUAL, FINAL)})


MARIAN = replace(
    BART,
    model_type="marian",
    modules={
        **TABLES,
        **stack("encoder", RESIDUAL, RESIDUAL),
        **stack("decoder", RESIDUAL, RESIDUAL),
        **HEADS,
    },
    for_config=_last_norm,
    vouched={
        **BART.vouched,
        "normalize_embedding": (False,),
        "static_position_embeddings": None,
        "share_encoder_decoder_embeddings": None,
        "decoder_vocab_size": None,
    },
    computed=POSITIONS,
    twin=lambda config, layers: {"decoder_vocab_size": 41 if config.share_encoder_decoder_embeddings else 43},
    positions="stored sinusoids",
    branches=(
        {},
        {"scale_embedding": True, "activation_function": "swish", "tie_word_embeddings": False},
        {"share_encoder_decoder_embeddings": False},
    ),
)
