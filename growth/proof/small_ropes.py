"""Rotary parameters of a miniature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from growth.architectures.sizes import rotary_part
from growth.hf.configs import Raw

SWITCH = 8
"""The ``original_max_position_embeddings`` of a miniature: between the two lengths of the twin's
inputs, so that both the short and the long factors of longrope are used."""


def small_rope(rope: Mapping[str, Any], head_dim: int | None, rotary: float = 1.0) -> Raw:
    """Rotary parameters for a small head.

    Args:
        rope: the user's, of all layers or by kind of layer.
        head_dim: of the miniature; None where it is the user's.
        rotary: the part of the head that rotates, where ``rope`` does not say it.
    """
    if rope and all(isinstance(value, Mapping) for value in rope.values()):
        return {kind: small_rope(value, head_dim) for kind, value in rope.items()}
    small = dict(rope)
    if head_dim is not None:
        pairs = int(head_dim * rotary_part(rope.get("partial_rotary_factor", rotary))) // 2
        small |= {name: (value * head_dim)[:pairs] for name, value in rope.items() if isinstance(value, list)}
    if has_factors(rope) and "original_max_position_embeddings" in rope:
        small["original_max_position_embeddings"] = SWITCH
    return small


def has_factors(rope: Mapping[str, Any]) -> bool:
    """Whether rotary parameters list a factor per frequency, as longrope does."""
    return any(isinstance(value, list) for value in rope.values())
