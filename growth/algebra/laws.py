"""Laws: from (n, m) to a map, or a refusal with its reason. One law per kind of non-linearity.

===========  ==========================================  ===================================
law          condition on the map                        write
===========  ==========================================  ===================================
`Copied`     copies of f(x) are f of the copies          1
`Linear`     none: only linear maps touch the space      1, or 1/sqrt(count) if orthogonal
`FixedSize`  may not grow, for a stated reason           1
===========  ==========================================  ===================================

Further laws: norms in `growth.algebra.norm_laws`, spaces that follow another space in
`growth.algebra.derived_laws`, attention and positions in `growth.algebra.attention_laws`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from growth.algebra.axes import Axis, Space
from growth.algebra.maps import Floats, Integers, Map
from growth.errors import IllegalGrowthError, IllegalShapeError

Scaling = Literal["unit", "orthogonal"]


@dataclass(frozen=True)
class Growth:
    """One space about to grow, and all that its law may look at.

    Args:
        space: the space.
        n, m: old and new number of coordinates.
        scaling: ``unit`` copies activations as they are; ``orthogonal`` divides them by
            sqrt(count), which keeps their norm.
        rope: how rotary pairs are laid out when head_dim grows, ``slots`` or ``pairs``
            (`growth.algebra.attention_laws.Scores`).
        ratios: constant of the forward pass -> its new value over its old one.
        maps: the maps of the spaces declared before this one.
        isometric: whether the epsilon of a norm on this space cannot change, because the code fixes
            it or norms of several sizes share it. Then x' must have the energy of x.
    """

    space: Space
    n: int
    m: int
    scaling: Scaling = "unit"
    rope: Literal["slots", "pairs"] = "slots"
    ratios: Mapping[str, float] = field(default_factory=dict)
    maps: Mapping[Space, Map] = field(default_factory=dict)
    isometric: bool = False

    def refuse(self, reason: str, remedy: str) -> IllegalGrowthError:
        """The error that names the space, both sizes, the reason and the next step."""
        return IllegalGrowthError(f"{self._what()}: {reason}. {remedy}")

    def _what(self) -> str:
        return f"cannot grow '{self.space}' ({self.space.size}) from {self.n} to {self.m}"

    def source(self, layout: Axis | None) -> Integers:
        """``[m]``, the coordinate that each new one copies: as in ``layout``, or in blocks ``[x; x;
        ...]``."""
        return Map.repeat(self.n, self.m).source if layout is None else layout.map(self.maps).source

    def energy(self, of: Space) -> float:
        """The energy of another space.

        Raises:
            IllegalGrowthError: if it has none.
        """
        energy = self.maps[of].energy
        if energy is None:
            raise self.refuse(f"the copies of '{of}' do not share one energy", "Use a whole multiple.")
        return energy

    def require_multiple(self, reason: str) -> None:
        """Refuse an m that is not a multiple of n.

        Raises:
            IllegalShapeError: with the reason and the next multiple.
        """
        if self.m % self.n:
            above = self.n * -(-self.m // self.n)
            reason = f"{reason}, so every coordinate needs the same number of copies"
            raise IllegalShapeError(
                f"{self._what()}: {reason}. Use a multiple of {self.n}: {above}.", {self.space.size}
            )


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
        """The constants of the forward pass that it needs."""
        return ()


@dataclass(frozen=True)
class Copied(Law):
    """Every copy has the value of its source: write = 1. An elementwise f needs this, ``f(x)[j] =
    f(x[source[j]])``, and so does an attention head, which is computed from its own queries, keys
    and values alone.

    Args:
        touched_by: the non-linearity, for messages.

    Example:
        >>> ffn = Space("ffn", "intermediate_size")
        >>> Copied().grow(Growth(ffn, 2, 4)).read.tolist()
        [0.5, 0.5, 0.5, 0.5]
    """

    touched_by: str = "an elementwise function"

    def grow(self, g: Growth) -> Map:
        return Map.repeat(g.n, g.m)

    def __str__(self) -> str:
        return f"copied ({self.touched_by})"


@dataclass(frozen=True)
class Repeated(Law):
    """Every copy has the value of its source, and nothing more is known about what touches the space:
    what an inferred declaration says (`growth.infer`).

    Args:
        averaged: whether a mean is taken over the space, so that all coordinates need as many copies.

    Raises:
        IllegalShapeError: for uneven copies of an averaged space.
        IllegalGrowthError: for scaling ``orthogonal``, which takes a law of its own.

    Example:
        >>> stream = Space("residual", "hidden_size")
        >>> Repeated(averaged=True).grow(Growth(stream, 2, 4)).write.tolist()
        [1.0, 1.0, 1.0, 1.0]
    """

    averaged: bool = True

    def grow(self, g: Growth) -> Map:
        if g.scaling != "unit":
            raise g.refuse("the declaration was inferred, which gives copies of scale 1", "Use --scaling unit.")
        if self.averaged:
            g.require_multiple("a mean is taken over all coordinates")
        return Map.repeat(g.n, g.m)

    def __str__(self) -> str:
        return "repeated, averaged" if self.averaged else "repeated"


@dataclass(frozen=True)
class Linear(Law):
    """Only linear maps touch the space, so any scale will do and the caller's ``scaling`` decides.

    Args:
        layout: the axis that decides where copies lie, for the output of a norm: the axis that
            enters it. Where that carries its mean, the norm's output is zero. Coordinates there are
            silent and are read like the others, so that whatever writes them gets a gradient from
            the first step.

    Example:
        >>> values = Space("value", "head_dim")
        >>> Linear().grow(Growth(values, 1, 4, "orthogonal")).write.tolist()
        [0.5, 0.5, 0.5, 0.5]
    """

    layout: Axis | None = None

    def grow(self, g: Growth) -> Map:
        source = g.source(self.layout)
        active = np.ones(g.m) if self.layout is None else 1.0 - self.layout.map(g.maps).means
        count: Floats = np.bincount(source, active, minlength=g.n)[source].astype(np.float64)
        write: Floats = count ** (0.0 if g.scaling == "unit" else -0.5)
        return Map(g.n, source, active * write, 1.0 / (count * write))

    def follows(self) -> tuple[Space, ...]:
        return spaces_of(self.layout)

    def __str__(self) -> str:
        return "linear"


@dataclass(frozen=True)
class FixedSize(Law):
    """May not grow.

    Args:
        reason: why, as it stands in the message.
        remedy: what to do instead.

    Raises:
        IllegalGrowthError: for any m other than n.
    """

    reason: str
    remedy: str

    def grow(self, g: Growth) -> Map:
        if g.m != g.n:
            raise g.refuse(self.reason, self.remedy)
        return Map.identity(g.n)

    def __str__(self) -> str:
        return f"fixed size: {self.reason}"


def spaces_of(*axes: Axis | None) -> tuple[Space, ...]:
    """The spaces that some axes are made of, in a fixed order."""
    return tuple(sorted({space for axis in axes if axis is not None for space in axis.spaces()}, key=str))
