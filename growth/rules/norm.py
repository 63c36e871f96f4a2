"""Norms: ``y = gain * (x - mean) / sqrt(var + eps) + bias`` and, without mean and bias, RMSNorm.

With copies of energy c (`growth.algebra.maps.Map.energy`) mean and variance of x' are sqrt(c) and c
times those of x. With eps' = c * eps the normalised x' is ``write[j] / sqrt(c)`` times the old one,
so ``gain' = out.write / (write / sqrt(c)) * gain`` and ``bias' = out.write * bias``.

A norm stands between two spaces. In a post-norm model both are the residual stream; in a pre-norm
model the sub-layers read ``normed`` and the head reads ``final``. What a sub-layer writes is
``branch`` where it is normed before it joins the stream. The table of the original derivation has
gain and bias 1/sqrt(k): ``scaling="orthogonal"``."""

from __future__ import annotations

from growth.algebra.axes import Axis, Space
from growth.algebra.roles import Gain, Writes
from growth.rules.linear import Rule

RESIDUAL = Space("residual", "hidden_size")
NORMED = Space("normed", "hidden_size")
FINAL = Space("final", "hidden_size")
BRANCH = Space("branch", "hidden_size")


def norm(enters: Axis, leaves: Axis, *, epsilon: str | float | None = None, offset: float = 0.0) -> Rule:
    """``LayerNorm`` and ``RMSNorm``: weight ``[features]``, bias ``[features]`` where there is one.
    Old files say gamma and beta. ``epsilon`` and ``offset``: see `growth.algebra.roles.Gain`."""
    return {"weight": (Gain(enters, leaves, offset, epsilon),), "bias": (Writes(leaves),)}
