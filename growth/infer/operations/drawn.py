"""Random numbers, and a function whose slope is a parameter."""

from __future__ import annotations

from growth.infer.errors import Unexplained
from growth.infer.operations.pointwise import broadcast
from growth.infer.values import Pair, Value, of, operation
from growth.infer.walk import Walk


@operation("prelu", "_prelu_kernel")
def prelu(walk: Walk, pair: Pair) -> list[Value]:
    """``x`` where it is positive, else ``w x``."""
    value, weight = walk.pair(pair, "self"), walk.pair(pair, "weight")
    walk.zero(weight.scale)
    return [of(broadcast([value, weight]), value.scale)]


@operation("randn_like", "rand_like", "randint_like", "normal", "uniform", "bernoulli", "exponential", "random")
def drawn(walk: Walk, pair: Pair) -> list[Value]:
    raise Unexplained(
        "random numbers are drawn in eval mode, so that no two runs agree; draw them in training alone (if "
        "self.training)"
    )
