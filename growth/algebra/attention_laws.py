"""Laws of attention: what softmax, rotary pairs and per-head constants allow.

=============  ========================================  ==========================================
law            condition on the map                      write
=============  ========================================  ==========================================
`Scores`       sum(q.write * k.write) over copies is     q: p/count, k: 1; or the root of p/count
               p = old scale / new scale                 for both, if orthogonal
`Alibi`        a head keeps its slope                    q, k: 1; v: 1, and 0 on silent heads
`Sinusoids`    a sine keeps its frequency                1, and 0 at the frequencies in between
`Frequencies`  a frequency goes with its rotary pair     1
=============  ========================================  ==========================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from growth.algebra.laws import Growth, Law
from growth.algebra.maps import Floats, Integers, Map


@dataclass(frozen=True)
class Scores(Law):
    """The queries or keys of ``softmax(scale * q . k)`` when head_dim grows from n to m.

    ``q' . k' = sum_j q.write[j] k.write[j] q[i] k[i]`` must be ``p * q . k`` with p = old scale /
    new scale; for scale = 1/sqrt(head_dim), p = sqrt(m/n). Each of the c copies of a coordinate
    carries p/c. With scaling ``unit`` the queries carry it and keys (hence the KV cache) are plain
    copies; with ``orthogonal`` both sides carry its root. Each side is read by the other: q.read =
    k.write / p.

    Rotary positions turn pairs of coordinates, pair j at frequency ``theta**(-2j/head_dim)``. With
    head_dim k times as large, new pair j copies old pair j // k, in one of two ways:

    * *slots*: new pair k*i has exactly the old frequency of pair i, ``theta**(-2ki/(kn))``, and
      holds its only copy (c = 1). The keys of the other pairs start at zero. Queries there are
      copies, which change nothing, and give the zero keys a gradient from the first step.
    * *pairs*: all k copies are active (c = k). The config must then give new pair j the frequency
      of old pair j // k (`growth.rules.rotary`).

    Args:
        side: which of the two.
        rotary: how pairs lie in a head: ``half`` for (i, i + head_dim/2), ``interleaved`` for
            (2i, 2i + 1), None without rotary positions.
        scale: name of the constant that multiplies the scores.

    Raises:
        IllegalShapeError: for rotary pairs, if m is not a multiple of n.
        IllegalGrowthError: for rotary pairs, if n is odd, as GPT-NeoX allows.

    Example:
        Two pairs become four, by slots. Old pairs 0 and 1 are new pairs 0 and 2:

        >>> from growth.algebra.axes import Space
        >>> g = Growth(Space("key", "head_dim"), 4, 8, ratios={"attention_scale": 0.5**0.5})
        >>> keys = Scores("key", "half").grow(g)
        >>> keys.source.tolist(), keys.write.tolist()
        ([0, 0, 1, 1, 2, 2, 3, 3], [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0])
    """

    side: Literal["query", "key"]
    rotary: Literal["half", "interleaved"] | None = None
    scale: str = "attention_scale"

    def grow(self, g: Growth) -> Map:
        source, active = Map.repeat(g.n, g.m).source, np.ones(g.m)
        if self.rotary and g.m != g.n:
            if g.n % 2:
                raise g.refuse(
                    "rotary positions turn pairs of coordinates, and of an odd number one has no pair",
                    "Use --attention heads, which keeps head_dim.",
                )
            g.require_multiple("rotary pairs keep their frequencies only at whole multiples")
            source, active = self._pairs(g)
        count = np.bincount(source, active, minlength=g.n)[source]
        p = 1.0 / g.ratios[self.scale]
        carried = p / count
        query = carried if g.scaling == "unit" else np.sqrt(carried)
        key = active * (1.0 if g.scaling == "unit" else np.sqrt(carried))
        write, other = (query, key) if self.side == "query" else (key, query)
        return Map(g.n, source, write, active * other / p)

    def constants(self) -> tuple[str, ...]:
        return (self.scale,)

    def _pairs(self, g: Growth) -> tuple[Integers, Floats]:
        """(source ``[m]``, 1 where the key of that coordinate is active and 0 where it is
        silent)."""
        k, pairs = g.m // g.n, g.n // 2
        new_pair = np.arange(k * pairs)
        old_pair = new_pair // k
        active = np.ones(k * pairs) if g.rope == "pairs" else (new_pair % k == 0).astype(np.float64)
        if self.rotary == "half":
            return np.concatenate([old_pair, old_pair + pairs]), np.tile(active, 2)
        return np.stack([2 * old_pair, 2 * old_pair + 1], axis=1).ravel(), np.repeat(active, 2)

    def __str__(self) -> str:
        return f"attention scores, rotary ({self.rotary})" if self.rotary else "attention scores"


@dataclass(frozen=True)
class Alibi(Law):
    """Heads with an ALiBi slope, which depends on the head's number and on the number of heads.

    Every slope of n heads is among those of m > n heads, so an old head moves to the number that
    has its slope. A head in between copies queries and keys of the head with the nearest slope. Its
    values start at zero, so it changes nothing; the output projection reads it like any other head,
    so its values get a gradient from the first step.

    Args:
        side: ``scores`` for the heads of queries and keys, ``values`` for those of values.

    References:
        Press et al. 2021, arXiv 2108.12409.

    Example:
        Two heads become four. Head 0 keeps its slope as new head 1, head 1 as new head 3:

        >>> from growth.algebra.axes import Space
        >>> Alibi("values").grow(Growth(Space("heads", "num_attention_heads"), 2, 4)).write.tolist()
        [0.0, 1.0, 0.0, 1.0]
    """

    side: Literal["scores", "values"]

    def grow(self, g: Growth) -> Map:
        distance = np.abs(slopes(g.n)[:, None] - slopes(g.m)[None, :])
        nearest, active = distance.argmin(axis=0), (distance.min(axis=0) == 0).astype(np.float64)
        one = np.ones(g.m)
        return Map(g.n, nearest, one, active) if self.side == "scores" else Map(g.n, nearest, active, one)

    def __str__(self) -> str:
        return "ALiBi slopes"


def slopes(n: int) -> Floats:
    """``[n]``, the exponent e of each head's slope ``2**(-8 e)``.

    For the largest power of two p among the n heads, e = 1/p, 2/p, ..., 1, and 1/2p, 3/2p, 5/2p,
    ... for the heads after these. All are fractions of a power of two, so float64 holds them.

    Example:
        >>> slopes(3).tolist()
        [0.5, 1.0, 0.25]
    """
    p = 1 << (n.bit_length() - 1)
    return np.concatenate([np.arange(1, p + 1) / p, np.arange(1, 2 * (n - p), 2) / (2 * p)])


@dataclass(frozen=True)
class Sinusoids(Law):
    """A table ``[sin(t w_0), sin(t w_1), ..., cos(t w_0), ...]`` with ``w_j = theta**(-2j/d)`` that
    a matrix projects before it is used (XLNet).

    With d k times as large, old frequency j is new frequency k*j. The projection reads the others
    with 0 (`growth.algebra.roles.Picks`) and learns from there.

    Raises:
        IllegalShapeError: if m is not a multiple of n.
    """

    def grow(self, g: Growth) -> Map:
        g.require_multiple("sinusoids keep their frequencies only at whole multiples")
        k, half = g.m // g.n, g.n // 2
        j = np.arange(k * half)
        active = np.tile((j % k == 0).astype(np.float64), 2)
        return Map(g.n, np.concatenate([j // k, j // k + half]), active, active)

    def __str__(self) -> str:
        return "sinusoids"


@dataclass(frozen=True)
class Frequencies(Law):
    """A table with one frequency per rotary pair, which checkpoints hold and models load. New pair
    j copies the frequency of old pair j // k, as in `Scores`, so old pairs keep theirs to the last
    bit.

    Raises:
        IllegalShapeError: if m is not a multiple of n.
    """

    def grow(self, g: Growth) -> Map:
        g.require_multiple("rotary pairs keep their frequencies only at whole multiples")
        return Map.copies(g.n, np.arange(g.m, dtype=np.int64) // (g.m // g.n))

    def __str__(self) -> str:
        return "rotary frequencies"
