"""Rotary positions: pair i of a head of width d turns by ``position * theta**(-2i/d)``.

Growing head_dim to kd changes the stock frequency of pair j to theta**(-2j/(kd)). *Slots* use those
that are unchanged (j = k*i), and need nothing of the config. *Pairs* repeat each pair k times, new
pair j copying old pair j // k, and so need the old frequency there: ``rope_type: longrope`` divides
each stock frequency by a factor of its own, here ``stock'[j] / old[j // k]``, which for plain
rotary positions is theta**(-2 (j mod k) / (kd)).

Kinds of scaling: none, linear and llama3 depend on the frequency alone, and so does yarn where it
does not round its bounds to whole
pairs (``truncate: false``); longrope holds one factor per pair: all can be carried over. Other yarn
and dynamic depend on the dimension itself and are refused. Sources: Su et al. 2021, arXiv
2104.09864; LongRoPE, arXiv 2402.13753; YaRN, arXiv 2309.00071."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from growth.errors import IllegalGrowthError

REFUSES = "head-dim under dynamic rotary scaling, or yarn unless `truncate` is false"
"""What the table of architectures says of rotary families."""

FREQUENCY_ONLY = ("default", "linear", "llama3")
_FACTORS = ("short_factor", "long_factor")


def grow_rope(
    rope: Mapping[str, Any], n: int, m: int, how: str, max_positions: int, lossy: bool
) -> dict[str, Any] | None:
    """The rotary config for head_dim m, from that for n.

    Args:
        rope: ``rope_parameters`` as transformers 5 writes them (rope_type, rope_theta, ...); empty
            where the code fixes them.
        n, m: old and new number of coordinates that turn, head_dim or its rotary part.
        how: ``slots`` or ``pairs``.
        max_positions: ``max_position_embeddings``, which longrope wants to know.
        lossy: accept ``pairs`` at stock frequencies where the config cannot hold the old ones.

    Returns:
        The new ``rope_parameters``, or None where the old ones serve.

    Raises:
        IllegalGrowthError: if this kind of scaling depends on head_dim itself.
    """
    kind = str(rope.get("rope_type", "default"))
    k, pairs = m // n, n // 2
    if k == 1:
        return None
    if sections := [name for name, value in rope.items() if isinstance(value, list) and name not in _FACTORS]:
        raise IllegalGrowthError(
            f"cannot grow head_dim from {n} to {m}: '{sections[0]}' shares the pairs of a head out by number. Use "
            "--attention heads."
        )
    if kind == "longrope":
        return {**rope, **{name: [_factor(rope, name, j, k, n, how) for j in range(k * pairs)] for name in _FACTORS}}
    if not carries(rope):
        if how == "pairs" and lossy:
            return None
        raise IllegalGrowthError(
            f"cannot grow head_dim from {n} to {m}: rotary scaling of type '{kind}' depends on head_dim itself. "
            "Use --attention heads, which keeps it"
            + (", or accept the loss with --rope pairs --lossy." if not lossy else ", or --rope pairs.")
        )
    if how == "slots":
        return None
    if "rope_theta" not in rope:
        if lossy:
            return None
        raise IllegalGrowthError(
            f"cannot grow head_dim from {n} to {m} by pairs: the model's code fixes the rotary frequencies, so that "
            "no config can hold "
            "the old ones. Use --rope slots, which needs none, or accept the loss with --lossy."
        )
    theta = float(rope["rope_theta"])
    old = [_scaled_frequency(theta ** (-2 * i / n), kind, rope) for i in range(pairs)]
    factors = [theta ** (-2 * j / m) / old[j // k] for j in range(k * pairs)]
    return {
        "rope_type": "longrope",
        "rope_theta": rope["rope_theta"],
        "factor": rope["factor"] if kind == "yarn" else 1.0,
        "attention_factor": _yarn_attention(rope) if kind == "yarn" else 1.0,
        "original_max_position_embeddings": max_positions,
        "short_factor": factors,
        "long_factor": factors,
        **{name: rope[name] for name in ("partial_rotary_factor", "mscale_all_dim") if name in rope},
    }


def carries(rope: Mapping[str, Any]) -> bool:
    """Whether a wider head can have every frequency of a narrower one."""
    kind = str(rope.get("rope_type", "default"))
    return kind in (*FREQUENCY_ONLY, "longrope") or (kind == "yarn" and _unrounded(rope))


def _factor(rope: Mapping[str, Any], name: str, j: int, k: int, n: int, how: str) -> float:
    """The longrope factor of new pair j: the old pair's, times what moves the stock frequency back
    to the old one."""
    old = float(rope[name][j // k])
    return old if how == "slots" else old * float(rope["rope_theta"]) ** (-2 * (j % k) / (k * n))


def _scaled_frequency(frequency: float, kind: str, rope: Mapping[str, Any]) -> float:
    """One frequency after ``linear``, ``llama3`` or unrounded ``yarn`` scaling (transformers'
    modeling_rope_utils)."""
    if kind == "default":
        return frequency
    factor = float(rope["factor"])
    if kind == "linear":
        return frequency / factor
    if kind == "yarn":
        first, last = _yarn_bounds(rope)
        ramp = min(
            max((-math.log(frequency) / math.log(float(rope["rope_theta"])) - first) / (last - first), 0.0), 1.0
        )
        return frequency * (1 - ramp) + frequency / factor * ramp
    low, high, reach = (
        float(rope[key]) for key in ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    )
    turns = reach * frequency / (2 * math.pi)  # full turns within the original context
    blend = min(max((turns - low) / (high - low), 0.0), 1.0)
    return (1 - blend) * frequency / factor + blend * frequency


def _yarn_bounds(rope: Mapping[str, Any]) -> tuple[float, float]:
    """Where yarn begins and ends to stretch frequencies, as -log(frequency) to base theta: 0 is the
    fastest pair, 1 beyond the slowest."""
    reach, theta = float(rope["original_max_position_embeddings"]), float(rope["rope_theta"])
    turns = (float(rope.get("beta_fast") or 32), float(rope.get("beta_slow") or 1))
    first, last = (math.log(reach / (2 * math.pi * turn)) / math.log(theta) for turn in turns)
    return max(first, 0.0), last


def _unrounded(rope: Mapping[str, Any]) -> bool:
    """Whether yarn's bounds are the same in heads of any width: not rounded to whole pairs, nor cut
    off where the head ends."""
    if rope.get("truncate", True) or not rope.get("factor") or "rope_theta" not in rope:
        return False
    first, last = _yarn_bounds(rope)
    return first < last <= 1


def _yarn_attention(rope: Mapping[str, Any]) -> float:
    """What yarn multiplies sines and cosines by."""
    if rope.get("attention_factor") is not None:
        return float(rope["attention_factor"])
    one, all_dim = rope.get("mscale"), rope.get("mscale_all_dim")
    grown = 0.1 * math.log(float(rope["factor"])) if float(rope["factor"]) > 1 else 0.0
    return (grown * one + 1) / (grown * all_dim + 1) if one and all_dim else grown + 1
