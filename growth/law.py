"""Laws: from (n, m) to a map, or a refusal with its reason, imposed by the non-linearity that touches the space.

=================  ======================================================  ==========================================
law                condition on the map                                    write, read
=================  ======================================================  ==========================================
`Copied`           f(x)[j] must be the copy of f(x)[i]: write = 1          1, 1/count
`Linear`           none (values, a norm's output)                          unit: 1, 1/count; orthogonal: 1/sqrt(count)
`RMSNorm`          sum(write**2) over copies constant                      write: sqrt((m/n)/count), or 1/sqrt(count)
`LayerNorm`        equal counts, so that the mean is kept too              as `Linear`, at multiples of n
`Dual`, `Scaled`   follow another space                                    see the classes
`Normalised`       what a norm without a gain leaves                       see the class
`UnitLength`       what division by its length leaves                      see the class
`Still`            may not grow, for a reason                              1, 1
=================  ======================================================  ==========================================

Attention and positions have theirs in `growth.position`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from growth.axis import Axis, Integers, Map, Space
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

    def source(self, layout: Axis | None) -> Integers:
        """Which coordinate each new one copies: as in ``layout``, or in blocks ``[x; x; ...]``."""
        return Map.repeat(self.n, self.m).source if layout is None else layout.map(self.maps).source

    def energy(self, of: Space) -> float:
        """The energy of another space, which must have one."""
        energy = self.maps[of].energy
        if energy is None:
            raise self.refuse(f"the copies of '{of}' do not share one energy", "Use a whole multiple.")
        return energy

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
    """Touched by linear maps alone: any scale will do, so the caller's choice. ``layout``: another axis that decides where copies lie."""

    layout: Axis | None = None

    def grow(self, g: Growth) -> Map:
        source = g.source(self.layout)
        counts = np.bincount(source, minlength=g.n)
        return Map.copies(g.n, source, 1.0 if g.scaling == "unit" else 1.0 / np.sqrt(counts))

    def follows(self) -> tuple[Space, ...]:
        return _spaces(self.layout)

    def __str__(self) -> str:
        return "linear"


@dataclass(frozen=True)
class RMSNorm(Law):
    """``x / sqrt(mean(x**2) + eps)``: the mean square must change by one factor c, ``sum(write**2 over copies) = c * m / n``.

    unit has c = 1 (write = sqrt((m/n)/count), which is 1 for whole multiples), and eps stays. orthogonal has
    c = n/m (write = 1/sqrt(count)), and eps becomes eps * n/m.

    Args:
        layout: the axis that decides where copies lie, where a norm stands before rotary positions (query and key norms).
        like: the space whose norm shares the epsilon. A linear layer writes what is normed here at any scale, so it takes that energy,
            and one epsilon serves both.
    """

    layout: Axis | None = None
    like: Space | None = None

    def grow(self, g: Growth) -> Map:
        source = g.source(self.layout)
        counts = np.bincount(source, minlength=g.n)
        stock = 1.0 if g.scaling == "orthogonal" else g.m / g.n
        squares = stock if self.like is None else g.energy(self.like) * g.m / g.n
        return Map.copies(g.n, source, (squares / counts) ** 0.5)

    def follows(self) -> tuple[Space, ...]:
        return _spaces(self.layout, self.like)

    def __str__(self) -> str:
        return "RMS norm"


@dataclass(frozen=True)
class LayerNorm(Law):
    """``(x - mean(x)) / sqrt(var(x) + eps)``: with equal counts the mean and the variance of x' are those of x, up to write and
    its square.

    Args:
        elementwise: the space is touched by an elementwise function as well, which fixes write = 1.
        layout, like: as for `RMSNorm`.
    """

    elementwise: bool = False
    layout: Axis | None = None
    like: Space | None = None

    def grow(self, g: Growth) -> Map:
        g.require_multiple("a layer norm takes the mean over all coordinates")
        return Map.copies(g.n, g.source(self.layout)) if self.elementwise else RMSNorm(self.layout, self.like).grow(g)

    def follows(self) -> tuple[Space, ...]:
        return _spaces(self.layout, self.like)

    def __str__(self) -> str:
        return "layer norm, elementwise" if self.elementwise else "layer norm"


@dataclass(frozen=True)
class Normalised(Law):
    """What a norm without a gain leaves: ``write = of.write / sqrt(energy of the copies)``. ``epsilon``: as for `growth.role.Gain`."""

    of: Space
    epsilon: str | float | None = None

    def grow(self, g: Growth) -> Map:
        return g.maps[self.of].scaled(g.energy(self.of) ** -0.5)

    def follows(self) -> tuple[Space, ...]:
        return (self.of,)

    def __str__(self) -> str:
        return f"{self.of}, normalised"


@dataclass(frozen=True)
class UnitLength(Law):
    """``x / |x|``: the length of x' is ``sqrt(energy * m / n)`` times that of x. Products of two such vectors stay as they are."""

    of: Space

    def grow(self, g: Growth) -> Map:
        return g.maps[self.of].scaled((g.energy(self.of) * g.m / g.n) ** -0.5)

    def follows(self) -> tuple[Space, ...]:
        return (self.of,)

    def __str__(self) -> str:
        return f"{self.of}, of length 1"


@dataclass(frozen=True)
class Still(Law):
    """May not grow, for ``reason``; ``remedy`` says what to do instead."""

    reason: str
    remedy: str

    def grow(self, g: Growth) -> Map:
        if g.m != g.n:
            raise g.refuse(self.reason, self.remedy)
        return Map.identity(g.n)

    def __str__(self) -> str:
        return f"still: {self.reason}"


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


def _spaces(*axes: Axis | None) -> tuple[Space, ...]:
    """The spaces some axes are made of, in a fixed order."""
    return tuple(sorted({space for axis in axes if axis is not None for space in axis.spaces()}, key=str))
