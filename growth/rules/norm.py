"""Norms: ``y = gain * (x - mean) / sqrt(var + eps) + bias``, and RMSNorm without mean and bias.

With copies of energy c (`growth.algebra.maps.Map.energy`), the variance of x' is c times that of x.
With ``eps' = c * eps`` the normalised x' is ``write[j] / sqrt(c)`` times the old one. So

    gain' = out.write / (write / sqrt(c)) * gain    and    bias' = out.write * bias.

A norm stands between two spaces. In a post-norm model both are the residual stream. In a pre-norm
model the sub-layers read ``normed`` and the head reads ``final``. Where what a sub-layer writes is
normed before it joins the stream, that output is ``branch``.

The original derivation (Su 2021) has 1/sqrt(k) for gain and bias: ``scaling="orthogonal"``.
"""

from __future__ import annotations

from growth.algebra.axes import Axis, Space
from growth.algebra.roles import Gain, Writes
from growth.rules.linear import Rule

RESIDUAL = Space("residual", "hidden_size")
NORMED = Space("normed", "hidden_size")
FINAL = Space("final", "hidden_size")
BRANCH = Space("branch", "hidden_size")


def norm(enters: Axis, leaves: Axis, *, epsilon: str | float | None = None, offset: float = 0.0) -> Rule:
    """``LayerNorm`` and ``RMSNorm``: weight ``[features]``, and bias ``[features]`` where there is
    one.

    Args:
        enters, leaves: the axis before and after the norm.
        epsilon, offset: as for `growth.algebra.roles.Gain`.

    Example:
        >>> {name: str(role) for name, (role,) in norm(RESIDUAL, NORMED).items()}
        {'weight': 'gain residual -> normed', 'bias': 'writes normed'}
    """
    return {"weight": (Gain(enters, leaves, offset, epsilon),), "bias": (Writes(leaves),)}
