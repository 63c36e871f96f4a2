"""Experts: feed-forward layers ``F_e``, of which a router picks some per token and weighs what they
write: ``sum(weight(e) * F_e(x) for e in top(G x))``.

The router G reads x and keeps its outputs, one per expert. Its logits are the old ones, and so are
the choice and the weights. Each expert grows as any feed-forward layer does. A *shared* expert is
one that every token passes through.
"""

from __future__ import annotations

from growth.algebra.axes import Axis, Space
from growth.algebra.laws import Law
from growth.rules.feed_forward import FFN, FFN_LAWS, feed_forward
from growth.rules.linear import Rule, under

EXPERT = Space("expert ffn", "moe_intermediate_size")
SHARED = Space("shared expert ffn", "shared_expert_intermediate_size")

EXPERT_LAWS: dict[Space, Law] = dict.fromkeys((EXPERT, SHARED), FFN_LAWS[FFN])


def experts(
    module: str, first: tuple[str, ...], second: str, *, reads: Axis, writes: Axis, hidden: Axis = EXPERT
) -> dict[str, Rule]:
    """The experts under one module, with one set of tensors for each, as in checkpoints.

    Args:
        module: the module that holds them by number.
        first, second, reads, writes, hidden: as for `growth.rules.feed_forward.feed_forward`.

    Example:
        >>> from growth.rules.norm import NORMED, RESIDUAL
        >>> list(experts("mlp.experts", ("w1", "w3"), "w2", reads=NORMED, writes=RESIDUAL))
        ['mlp.experts.*.w1', 'mlp.experts.*.w3', 'mlp.experts.*.w2']
    """
    rules = feed_forward(first, second, reads=reads, writes=writes, hidden=hidden)
    return under(f"{module}.*", rules)
