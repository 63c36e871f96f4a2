"""Embeddings: ``x = E[token] + P[position] + ...``.

``E'[t, j] = write[j] E[t, source[j]]`` is the definition of x'; the sum of several tables grows
like each of them. The table of the original derivation (Su 2021) has write = 1/sqrt(k) here: that
is ``scaling="orthogonal"``."""

from __future__ import annotations

from growth.algebra.axes import Axis
from growth.algebra.roles import Keeps, Writes
from growth.rules.linear import Rule


def embedding(writes: Axis) -> Rule:
    """``torch.nn.Embedding``: weight ``[entries, features]``. The entries (vocabulary, positions,
    segments) are kept."""
    return {"weight": (Keeps(), Writes(writes))}
