"""Rotary positions: pair i of a head of width d turns by ``position * theta**(-2i/d)``.

With head_dim kd, the stock frequency of pair j is ``theta**(-2j/(kd))``. Two layouts keep the old
frequencies (`growth.algebra.attention_laws.Scores`):

* *slots*: old pair i becomes pair k*i, whose stock frequency is that of pair i. The config does not
  change.
* *pairs*: new pair j copies old pair j // k, and must get its frequency. ``rope_type: longrope``
  divides each stock frequency by a factor from the config. It takes ``stock'[j] / old[j // k]``,
  for plain rotary positions ``theta**(-2 (j mod k) / (kd))``.

Which scalings can be carried over: none, linear and llama3 depend on the frequency alone; yarn does
so where it does not round its bounds to whole pairs (``truncate: false``); longrope holds one
factor per pair. Other yarn and dynamic scaling depend on head_dim itself and are refused.

References: Su et al. 2021, arXiv 2104.09864; LongRoPE, arXiv 2402.13753; YaRN, arXiv 2309.00071.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from growth.errors import IllegalGrowthError

FREQUENCY_ONLY = ("default", "linear", "llama3")
_FACTORS = ("short_factor", "long_factor")


def grow_rope(
    rope: Mapping[str, Any], n: int, m: int, how: str, max_positions: int, lossy: bool
) -> dict[str, Any] | None:
    """The rotary config for heads of width m, from the one for width n.

    Args:
        rope: ``rope_parameters`` as transformers 5 writes them (rope_type, rope_theta, ...); empty
            where the code fixes the frequencies.
        n, m: old and new number of coordinates that turn: head_dim, or its rotary part.
        how: ``slots`` or ``pairs``.
        max_positions: ``max_position_embeddings``, which longrope needs.
        lossy: accept ``pairs`` at stock frequencies where the config cannot hold the old ones.

    Returns:
        The new ``rope_parameters``; None where the old ones stay.

    Raises:
        IllegalGrowthError: if this kind of scaling depends on head_dim itself, or the config cannot
            hold the frequencies.

    Example:
        Heads of width 4 become 8 by pairs, at theta = 10000. Every other stock frequency is a tenth
        of the old one, and is divided by 0.1:

        >>> plain = {"rope_type": "default", "rope_theta": 10000.0}
        >>> [round(f, 3) for f in grow_rope(plain, 4, 8, "pairs", 2048, lossy=False)["long_factor"]]
        [1.0, 0.1, 1.0, 0.1]
        >>> grow_rope(plain, 4, 8, "slots", 2048, lossy=False) is None
        True
    """
    try:
        return _grow_rope(rope, n, m, how, max_positions, lossy)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise IllegalGrowthError(
            f"the rotary parameters {dict(rope)!r} make no frequencies ({type(error).__name__}: {error}). Check them "
            "in config.json."
        ) from error


def _grow_rope(
    rope: Mapping[str, Any], n: int, m: int, how: str, max_positions: int, lossy: bool
) -> dict[str, Any] | None:
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
    if not keeps_frequencies(rope):
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


def keeps_frequencies(rope: Mapping[str, Any]) -> bool:
    """Whether a wider head can hold every frequency of a narrower one.

    Example:
        >>> keeps_frequencies({"rope_type": "linear", "factor": 2.0}), keeps_frequencies({"rope_type": "dynamic"})
        (True, False)
    """
    kind = str(rope.get("rope_type", "default"))
    return kind in (*FREQUENCY_ONLY, "longrope") or (kind == "yarn" and _unrounded(rope))


def _factor(rope: Mapping[str, Any], name: str, j: int, k: int, n: int, how: str) -> float:
    """The longrope factor of new pair j: that of the old pair, times the factor from the stock
    frequency to the old one."""
    old = float(rope[name][j // k])
    return old if how == "slots" else old * float(rope["rope_theta"]) ** (-2 * (j % k) / (k * n))


def _scaled_frequency(frequency: float, kind: str, rope: Mapping[str, Any]) -> float:
    """One frequency after ``linear``, ``llama3`` or unrounded ``yarn`` scaling, as in transformers'
    modeling_rope_utils."""
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
    """Between which pairs yarn ramps from no stretching to full stretching, as -log(frequency) to
    base theta: 0 is the fastest pair, 1 is beyond the slowest."""
    reach, theta = float(rope["original_max_position_embeddings"]), float(rope["rope_theta"])
    turns = (float(rope.get("beta_fast") or 32), float(rope.get("beta_slow") or 1))
    first, last = (math.log(reach / (2 * math.pi * turn)) / math.log(theta) for turn in turns)
    return max(first, 0.0), last


def _unrounded(rope: Mapping[str, Any]) -> bool:
    """Whether yarn's bounds do not depend on head_dim: neither rounded to whole pairs nor cut off
    at the end of the head."""
    if rope.get("truncate", True) or not rope.get("factor") or "rope_theta" not in rope:
        return False
    first, last = _yarn_bounds(rope)
    return first < last <= 1


def _yarn_attention(rope: Mapping[str, Any]) -> float:
    """The factor of yarn on sines and cosines."""
    if rope.get("attention_factor") is not None:
        return float(rope["attention_factor"])
    one, all_dim = rope.get("mscale"), rope.get("mscale_all_dim")
    grown = 0.1 * math.log(float(rope["factor"])) if float(rope["factor"]) > 1 else 0.0
    return (grown * one + 1) / (grown * all_dim + 1) if one and all_dim else grown + 1
