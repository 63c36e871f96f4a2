"""Laws of attention: what softmax, rotary pairs and per-head constants allow.

==============  ================================================  ============================================
law             condition on the map                              write, read
==============  ================================================  ============================================
`Scores`        sum(q.write * k.write) over copies = old/new scale  see the class
`Alibi`         a head keeps its slope                            1 on q and k; 0 on the values of heads born silent
`Sinusoids`     a sine keeps its frequency                        1; 0 at frequencies in between
`Frequencies`   a stored frequency goes with its rotary pair      1
==============  ================================================  ============================================

Source of the slopes: Press et al. 2021, arXiv 2108.12409.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from growth.algebra.laws import Growth, Law
from growth.algebra.maps import Floats, Integers, Map


@dataclass(frozen=True)
class Scores(Law):
    """The two sides of ``softmax(scale * q . k)`` when head_dim grows.

    ``q'.k' = sum_j q.write[j] k.write[j] q[i] k[i]`` must be ``q.k * old scale / new scale``; with
    scale = 1/sqrt(head_dim) the quotient is p = sqrt(m/n). Each of the c copies carries p/c:
    ``unit`` puts it into the queries, so that keys (and the KV cache) stay exact copies;
    ``orthogonal`` gives each side sqrt(p/c). A side is read by the other one: q.read = k.write / p.

    With ``rotary`` (``half``: pairs (i, i + d/2); ``interleaved``: (2i, 2i+1)), pair j of the new
    head copies pair j // k:

    * *slots*: the stock frequency of new pair k*i is theta**(-2ki/(kd)), exactly the old one of
      pair i. Pair i lives there with
      c = 1. In the other slots keys start at zero, so that queries there (copies, at frequencies of
      their own) change nothing and keys learn from the first step: their gradient is the query.
    * *pairs*: every copy is alive, c = k, and the config must give new pair j the frequency of old
      pair j // k (`growth.rules.rotary`).
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
        old_pair, alive = (
            new_pair // k,
            np.ones(k * pairs) if g.rope == "pairs" else (new_pair % k == 0).astype(np.float64),
        )
        if self.rotary == "half":
            return np.concatenate([old_pair, old_pair + pairs]), np.tile(alive, 2)
        return np.stack([2 * old_pair, 2 * old_pair + 1], axis=1).ravel(), np.repeat(alive, 2)

    def __str__(self) -> str:
        return f"attention scores, rotary ({self.rotary})" if self.rotary else "attention scores"


@dataclass(frozen=True)
class Alibi(Law):
    """Heads whose slope is a function of their number: ``2**(-8 e)`` with e = 1/p, 2/p, ..., 1 for
    the largest power of two p among the n heads, and e = 1/2p, 3/2p, 5/2p, ... for those beyond it.

    More heads have every slope that fewer heads have, so an old head goes to the number that has
    its slope. The heads in between copy queries and keys of the head with the nearest slope; their
    values are zero, so they change nothing, and the output projection reads those values like any
    other, so they learn from the first step.

    Args:
        side: ``scores`` for the heads of queries and keys, ``values`` for the heads of values.
    """

    side: Literal["scores", "values"]

    def grow(self, g: Growth) -> Map:
        distance = np.abs(slopes(g.n)[:, None] - slopes(g.m)[None, :])
        nearest, alive = distance.argmin(axis=0), (distance.min(axis=0) == 0).astype(np.float64)
        one = np.ones(g.m)
        return Map(g.n, nearest, one, alive) if self.side == "scores" else Map(g.n, nearest, alive, one)

    def __str__(self) -> str:
        return "ALiBi slopes"


def slopes(n: int) -> Floats:
    """``[n]``, ``-log2(slope) / 8`` of each head; exact, since they are fractions of a power of
    two."""
    p = 1 << (n.bit_length() - 1)
    return np.concatenate([np.arange(1, p + 1) / p, np.arange(1, 2 * (n - p), 2) / (2 * p)])


@dataclass(frozen=True)
class Sinusoids(Law):
    """A table ``[sin(t w_0), sin(t w_1), ..., cos(t w_0), ...]`` with ``w_j = theta**(-2j/d)`` that
    is projected before use: in width k d the old frequency j is number k j, and the projection
    reads the others with 0 (`growth.algebra.roles.Picks`), from where it learns."""

    def grow(self, g: Growth) -> Map:
        g.require_multiple("sinusoids keep their frequencies only at whole multiples")
        k, half = g.m // g.n, g.n // 2
        j = np.arange(k * half)
        alive = np.tile((j % k == 0).astype(np.float64), 2)
        return Map(g.n, np.concatenate([j // k, j // k + half]), alive, alive)

    def __str__(self) -> str:
        return "sinusoids"


@dataclass(frozen=True)
class Frequencies(Law):
    """A table with one entry per rotary pair, held by checkpoints and loaded by models: new pair j
    copies that of old pair j // k, like `Scores`. So old pairs keep their frequencies to the last
    bit, however they were rounded; the silent pairs in between repeat them."""

    def grow(self, g: Growth) -> Map:
        g.require_multiple("rotary pairs keep their frequencies only at whole multiples")
        return Map.copies(g.n, np.arange(g.m, dtype=np.int64) // (g.m // g.n))

    def __str__(self) -> str:
        return "rotary frequencies"
