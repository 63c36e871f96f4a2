"""Pegasus: encoder and decoder with pre-norms; sinusoids added to the stream, in tables that a checkpoint may hold."""

from dataclasses import replace

from growth.architectures.bart import HEADS, TABLES
from growth.architectures.mbart import MBART, PRE_NORM

POSITIONS = ("encoder.embed_positions.weight", "decoder.embed_positions.weight")

PEGASUS = replace(
    MBART,
    model_type="pegasus",
    modules={**TABLES, **PRE_NORM, **HEADS},
    vouched={**MBART.vouched, "normalize_embedding": (False,), "static_position_embeddings": None},
    computed=POSITIONS,
    positions="stored sinusoids",
)
