"""Embeddings: ``x = E[token] + P[position] + ...``.

``E'[t, j] = write[j] * E[t, source[j]]`` is the definition of x', and a sum of several tables grows
as each of them does. The original derivation (Su 2021) has write = 1/sqrt(k):
``scaling="orthogonal"``.
"""

from __future__ import annotations

from growth.algebra.axes import Axis
from growth.algebra.roles import Keeps, Writes
from growth.rules.linear import Rule


def embedding(writes: Axis) -> Rule:
    """``torch.nn.Embedding``: weight ``[entries, features]``. The entries (vocabulary, positions,
    segments) do not grow.

    Args:
        writes: the axis of the features.

    Example:
        >>> from growth.rules.norm import RESIDUAL
        >>> [str(role) for role in embedding(RESIDUAL)["weight"]]
        ['keeps', 'writes residual']
    """
    return {"weight": (Keeps(), Writes(writes))}
