"""Feed-forward: ``W2 f(W1 x + b1) + b2`` and the gated ``W2 (f(Wg x) * (Wu x))``.

f and the gate's product act coordinate by coordinate, so a copy stays a copy if write = 1: W1
repeats its rows, W2 reads with 1/count. The scale of the residual stream is undone by W1 and put
back by W2: with scaling="orthogonal" and k copies W1 = 1/sqrt(k), b1 = 1, W2 = 1/(k sqrt(k)), b2 =
1/sqrt(k). (The published table has 1/2 for b2 at k = 2; that is not exact unless b2 = 0, as the
tests show.)"""

from __future__ import annotations

from growth.algebra.axes import Axis, Space
from growth.algebra.laws import Copied, Law
from growth.rules.linear import Rule, linear

FFN = Space("ffn", "intermediate_size")


FFN_LAWS: dict[Space, Law] = {FFN: Copied("an elementwise function")}


def feed_forward(
    first: tuple[str, ...], second: str, *, reads: Axis, writes: Axis, hidden: Axis = FFN
) -> dict[str, Rule]:
    """Modules named ``first`` (one, or gate and up) into the ``hidden`` layer and ``second`` out of
    it."""
    return {**{name: linear(reads, hidden) for name in first}, second: linear(hidden, writes)}
