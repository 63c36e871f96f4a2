"""Pegasus: encoder and decoder with pre-norms. Sinusoids are added to the residual stream, from
tables that a checkpoint may hold."""

from __future__ import annotations

from dataclasses import replace

from growth.architectures.families.bart import HEADS, TABLES
from growth.architectures.families.mbart import MBART, PRE_NORM

POSITIONS = ("encoder.embed_positions.weight", "decoder.embed_positions.weight")


PEGASUS = replace(
    MBART,
    model_type="pegasus",
    modules={**TABLES, **PRE_NORM, **HEADS},
    vouched={**MBART.vouched, "normalize_embedding": (False,), "static_position_embeddings": None},
    computed=POSITIONS,
    positions="stored sinusoids",
)
