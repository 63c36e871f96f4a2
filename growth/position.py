"""Laws of attention: what softmax, rotary pairs and per-head constants allow.

==================  ===================================================  ==================================================
law                 condition on the map                                 write, read
==================  ===================================================  ==================================================
`Scores`            sum(q.write * k.write) over copies = old/new scale   see the class
`Alibi`             a head keeps its slope                               1 on q and k; 0 on the values of heads born silent
`Sinusoids`         a sine keeps its frequency                           1; the others are read with 0
==================  ===================================================  ==================================================

Source of the slopes: Press et al. 2021, arXiv 2108.12409.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from growth.axis import Floats, Integers, Map
from growth.law import Growth, Law


@dataclass(frozen=True)
class Scores(Law):
    """The two sides of ``softmax(scale * q . k)`` when head_dim grows.

    ``q'.k' = sum_j q.write[j] k.write[j] q[i] k[i]`` must be ``q.k * old scale / new scale``; with scale = 1/sqrt(head_dim) the
    quotient is p = sqrt(m/n). Each of the c copies carries p/c: ``unit`` puts it into the queries, so that keys (and the KV cache)
    stay exact copies; ``orthogonal`` gives each side sqrt(p/c). A side is read by the other one: q.read = k.write / p.

    With ``rotary`` (``half``: pairs (i, i + d/2); ``interleaved``: (2i, 2i+1)), pair j of the new head copies pair j // k:

    * *slots*: the stock frequency of new pair k*i is theta**(-2ki/(kd)), exactly the old one of pair i. Pair i lives there with
      c = 1. In the other slots keys start at zero, so that queries there (copies, at frequencies of their own) change nothing and
      keys learn from the first step: their gradient is the query.
    * *pairs*: every copy is alive, c = k, and the config must give new pair j the frequency of old pair j // k (`rules.rotary`).
    """

    side: Literal["query", "key"]
    rotary: Literal["half", "interleaved"] | None = None
    scale: str = "attention_scale"

    def grow(self, g: Growth) -> Map:
        plain = Map.repeat(g.n, g.m)
        source, alive = plain.source, np.ones(g.m)
        if self.rotary and g.m != g.n:
            g.require_multiple("rotary pairs keep their frequencies only at whole multiples")
            source, alive = self._pairs(g)
        count = np.bincount(source, alive, minlength=g.n)[source]
        quotient = 1.0 / g.ratios[self.scale]
        carried = quotient / count
        query = carried if g.scaling == "unit" else np.sqrt(carried)
        key = alive * (1.0 if g.scaling == "unit" else np.sqrt(carried))
        write, other = (query, key) if self.side == "query" else (key, query)
        return Map(g.n, source, write, alive * other / quotient)

    def constants(self) -> tuple[str, ...]:
        return (self.scale,)

    def _pairs(self, g: Growth) -> tuple[Integers, Floats]:
        k, pairs = g.m // g.n, g.n // 2
        new_pair = np.arange(k * pairs)
        old_pair, alive = new_pair // k, np.ones(k * pairs) if g.rope == "pairs" else (new_pair % k == 0).astype(np.float64)
        if self.rotary == "half":
            return np.concatenate([old_pair, old_pair + pairs]), np.tile(alive, 2)
        return np.stack([2 * old_pair, 2 * old_pair + 1], axis=1).ravel(), np.repeat(alive, 2)

    def __str__(self) -> str:
        return f"attention scores, rotary ({self.rotary})" if self.rotary else "attention scores"


@dataclass(frozen=True)
class Alibi(Law):
    """Heads whose slope is a function of their number: ``2**(-8 (i + 1) / n)`` for the i-th of n, n a power of two.

    Among m = k n heads, number ``k (i + 1) - 1`` has the old slope of i, so the old heads go there. The heads in between copy queries and
    keys; their values are zero, so they change nothing, and the output projection reads those values like any other, so they learn from
    the first step.

    Args:
        side: ``scores`` for the heads of queries and keys, ``values`` for the heads of values.
    """

    side: Literal["scores", "values"]

    def grow(self, g: Growth) -> Map:
        if g.m == g.n:
            return Map.identity(g.n)
        k = g.m // g.n
        if g.m % g.n or g.n & (g.n - 1) or k & (k - 1):
            raise g.refuse(
                "ALiBi slopes depend on the number of heads, and old slopes are among the new ones only for powers of two",
                "Use --attention head-dim, or a width of 2, 4, 8, ... on a model with 2, 4, 8, ... heads.",
            )
        head = np.arange(g.m)
        alive = ((head + 1) % k == 0).astype(np.float64)
        one = np.ones(g.m)
        return Map(g.n, head // k, one, alive) if self.side == "scores" else Map(g.n, head // k, alive, one)

    def __str__(self) -> str:
        return "ALiBi slopes"


@dataclass(frozen=True)
class Sinusoids(Law):
    """A table ``[sin(t w_0), sin(t w_1), ..., cos(t w_0), ...]`` with ``w_j = theta**(-2j/d)`` that is projected before use: in width
    k d the old frequency j is number k j, and the projection reads the others with 0, from where it learns."""

    def grow(self, g: Growth) -> Map:
        g.require_multiple("sinusoids keep their frequencies only at whole multiples")
        k, half = g.m // g.n, g.n // 2
        j = np.arange(k * half)
        alive = np.tile((j % k == 0).astype(np.float64), 2)
        return Map(g.n, np.concatenate([j // k, j // k + half]), np.ones(g.m), alive)

    def __str__(self) -> str:
        return "sinusoids"
