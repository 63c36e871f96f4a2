"""Laws: from (n, m) to a map, or a refusal with its reason, imposed by the non-linearity that touches the space.

=================  ======================================================  ==========================================
law                condition on the map                                    write, read
=================  ======================================================  ==========================================
`Copied`           f(x)[j] must be the copy of f(x)[i]: write = 1          1, 1/count
`Linear`           none (values, a norm's output)                          unit: 1, 1/count; orthogonal: 1/sqrt(count)
`RMSNorm`          sum(write**2) over copies constant                      write: sqrt((m/n)/count), or 1/sqrt(count)
`LayerNorm`        equal counts, so that the mean is kept too              as `Linear`, at multiples of n
`Scores`           sum(q.write * k.write) over copies = old/new scale      see the class
`Dual`, `Scaled`   follow another space                                    see the classes
=================  ======================================================  ==========================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from growth.axis import Map, Space
from growth.errors import IllegalGrowthError

Scaling = Literal["unit", "orthogonal"]


@dataclass(frozen=True)
class Growth:
    """One space about to grow, and what its law may look at.

    Args:
        space: the space.
        n, m: old and new number of coordinates.
        scaling: ``unit`` copies activations as they are; ``orthogonal`` divides them by sqrt(count), so that norms are kept.
        rope: how rotary pairs are laid out when head_dim grows, ``slots`` or ``pairs``.
        ratios: new over old value of each constant of the model that depends on its width.
        maps: spaces already grown.
    """

    space: Space
    n: int
    m: int
    scaling: Scaling = "unit"
    rope: Literal["slots", "pairs"] = "slots"
    ratios: Mapping[str, float] = field(default_factory=dict)
    maps: Mapping[Space, Map] = field(default_factory=dict)

    def refuse(self, reason: str, remedy: str) -> IllegalGrowthError:
        """The error that names the space, both sizes, the reason and the next step."""
        return IllegalGrowthError(f"cannot grow '{self.space}' ({self.space.size}) from {self.n} to {self.m}: {reason}. {remedy}")

    def require_multiple(self, reason: str) -> None:
        """Refuse m that is not a whole multiple of n."""
        if self.m % self.n:
            above = self.n * -(-self.m // self.n)
            raise self.refuse(f"{reason}, so every coordinate needs the same number of copies", f"Use a multiple of {self.n}: {above}.")


class Law(ABC):
    """What a non-linearity allows."""

    @abstractmethod
    def grow(self, g: Growth) -> Map:
        """The map from g.n to g.m coordinates.

        Raises:
            IllegalGrowthError: where no exact map exists.
        """

    def follows(self) -> tuple[Space, ...]:
        """The spaces whose maps it looks at."""
        return ()

    def constants(self) -> tuple[str, ...]:
        """The constants of the model it needs."""
        return ()


@dataclass(frozen=True)
class Copied(Law):
    """Each copy is the coordinate itself: ``f(x)[j] = f(x[source[j]])`` needs write = 1 for any elementwise f, and for a head
    computed from its own queries, keys and values alone. ``touched_by`` is for messages."""

    touched_by: str = "an elementwise function"

    def grow(self, g: Growth) -> Map:
        return Map.repeat(g.n, g.m)

    def __str__(self) -> str:
        return f"copied ({self.touched_by})"


@dataclass(frozen=True)
class Linear(Law):
    """Touched by linear maps alone: any scale will do, so the caller's choice."""

    def grow(self, g: Growth) -> Map:
        plain = Map.repeat(g.n, g.m)
        return plain if g.scaling == "unit" else Map.repeat(g.n, g.m, 1.0 / np.sqrt(plain.counts))

    def __str__(self) -> str:
        return "linear"


@dataclass(frozen=True)
class RMSNorm(Law):
    """``x / sqrt(mean(x**2) + eps)``: the mean square must change by one factor c, ``sum(write**2 over copies) = c * m / n``.

    unit has c = 1 (write = sqrt((m/n)/count), which is 1 for whole multiples), and eps stays. orthogonal has
    c = n/m (write = 1/sqrt(count)), and eps becomes eps * n/m.
    """

    def grow(self, g: Growth) -> Map:
        counts = Map.repeat(g.n, g.m).counts
        return Map.repeat(g.n, g.m, ((1.0 if g.scaling == "orthogonal" else g.m / g.n) / counts) ** 0.5)

    def __str__(self) -> str:
        return "RMS norm"


@dataclass(frozen=True)
class LayerNorm(Law):
    """``(x - mean(x)) / sqrt(var(x) + eps)``: with equal counts the mean and the variance of x' are those of x, up to write and
    its square. ``elementwise``: the space is touched by an elementwise function as well, which fixes write = 1."""

    elementwise: bool = False

    def grow(self, g: Growth) -> Map:
        g.require_multiple("a layer norm takes the mean over all coordinates")
        return Map.repeat(g.n, g.m) if self.elementwise else Linear().grow(g)

    def __str__(self) -> str:
        return "layer norm, elementwise" if self.elementwise else "layer norm"


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

    def _pairs(self, g: Growth) -> tuple[np.ndarray, np.ndarray]:
        k, pairs = g.m // g.n, g.n // 2
        new_pair = np.arange(k * pairs)
        old_pair, alive = new_pair // k, np.ones(k * pairs) if g.rope == "pairs" else (new_pair % k == 0).astype(np.float64)
        if self.rotary == "half":
            return np.concatenate([old_pair, old_pair + pairs]), np.tile(alive, 2)
        return np.stack([2 * old_pair, 2 * old_pair + 1], axis=1).ravel(), np.repeat(alive, 2)

    def __str__(self) -> str:
        return f"attention scores, rotary ({self.rotary})" if self.rotary else "attention scores"


@dataclass(frozen=True)
class Dual(Law):
    """Write and read of another space swapped: a head whose matrix is the embedding's reads with the embedding's write."""

    of: Space

    def grow(self, g: Growth) -> Map:
        return g.maps[self.of].dual

    def follows(self) -> tuple[Space, ...]:
        return (self.of,)

    def __str__(self) -> str:
        return f"dual of {self.of}"


@dataclass(frozen=True)
class Scaled(Law):
    """A constant of the model that depends on its width stands between this space and ``into``: ``into = constant * this``, so
    ``write = into.write * old constant / new constant``."""

    into: Space
    constant: str

    def grow(self, g: Growth) -> Map:
        return g.maps[self.into].scaled(1.0 / g.ratios[self.constant])

    def follows(self) -> tuple[Space, ...]:
        return (self.into,)

    def constants(self) -> tuple[str, ...]:
        return (self.constant,)

    def __str__(self) -> str:
        return f"{self.into} / {self.constant}"
