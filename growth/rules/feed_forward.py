"""Feed-forward layers: ``W2 f(W1 x + b1) + b2`` and, gated, ``W2 (f(Wg x) * (Wu x))``.

f and the gate act coordinate by coordinate, so copies of the hidden layer must be plain copies,
with write = 1. W1 repeats its rows and W2 reads with 1/count. W1 undoes the scale of the residual
stream and W2 puts it back: with scaling ``orthogonal`` and k copies, W1 = 1/sqrt(k), b1 = 1, W2 =
1/(k sqrt(k)), b2 = 1/sqrt(k). (The table of the original derivation, Su 2021, has 1/2 for b2 at
k = 2, which is exact only for b2 = 0: tests/architectures/test_original_table.py.)
"""

from __future__ import annotations

from growth.algebra.axes import Axis, Space
from growth.algebra.laws import Copied, Law
from growth.rules.linear import Rule, linear

FFN = Space("ffn", "intermediate_size")

FFN_LAWS: dict[Space, Law] = {FFN: Copied("an elementwise function")}


def feed_forward(
    first: tuple[str, ...], second: str, *, reads: Axis, writes: Axis, hidden: Axis = FFN
) -> dict[str, Rule]:
    """The linear modules of a feed-forward layer.

    Args:
        first: names of the modules into the hidden layer: one, or gate and up-projection.
        second: name of the down-projection.
        reads, writes: the axes before and after the layer.
        hidden: the axis of the hidden layer.

    Example:
        >>> from growth.rules.norm import NORMED, RESIDUAL
        >>> rules = feed_forward(("gate_proj", "up_proj"), "down_proj", reads=NORMED, writes=RESIDUAL)
        >>> [str(role) for role in rules["down_proj"]["weight"]]
        ['writes residual', 'reads ffn']
    """
    return {**{name: linear(reads, hidden) for name in first}, second: linear(hidden, writes)}
