"""Experts: several feed-forward layers ``F_e``, of which a gate on the same input picks some and
weighs what they write, ``sum(weight(e) * F_e(x) for e in top(g(x)))`` with ``g(x) = G x``.

The gate reads x and keeps its outputs, one per expert: its logits, and with them the choice and the
weights, are exactly the old ones. Each expert then grows as any feed-forward layer does. A shared
expert is one that every token takes."""

from __future__ import annotations

from growth.algebra.axes import Axis, Space
from growth.algebra.laws import Law
from growth.rules.feed_forward import FFN, FFN_LAWS, feed_forward
from growth.rules.linear import Rule

EXPERT = Space("expert ffn", "moe_intermediate_size")
SHARED = Space("shared expert ffn", "shared_expert_intermediate_size")

EXPERT_LAWS: dict[Space, Law] = dict.fromkeys((EXPERT, SHARED), FFN_LAWS[FFN])


def experts(
    module: str, first: tuple[str, ...], second: str, *, reads: Axis, writes: Axis, hidden: Axis = EXPERT
) -> dict[str, Rule]:
    """The experts under ``module``, one after the other as they are on disk; ``first`` and
    ``second`` as for `feed_forward`."""
    return {
        f"{module}.*.{name}": rule
        for name, rule in feed_forward(first, second, reads=reads, writes=writes, hidden=hidden).items()
    }
