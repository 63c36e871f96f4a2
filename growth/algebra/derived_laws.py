"""Laws of spaces whose map follows from that of another space.

============  ================================================  ================================
law           the space is                                      write
============  ================================================  ================================
`Dual`        read by a matrix that writes the other space      the other's read
`Scaled`      the other, before a constant that grows with it   the other's, over the ratio
`Normalised`  what a norm without a gain leaves                 the other's, over sqrt(energy)
`UnitLength`  what division by its length leaves                the other's, over the lengths' ratio
============  ================================================  ================================
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from growth.algebra.axes import Space
from growth.algebra.laws import Growth, Law
from growth.algebra.maps import Map


@dataclass(frozen=True)
class Normalised(Law):
    """What a norm without a gain leaves: ``write = of.write / sqrt(energy)`` on copies, 0 where the
    input carries its mean.

    Args:
        of: what enters the norm.
        epsilon: as for `growth.algebra.roles.Gain`.

    Example:
        >>> stream, normed = Space("residual", "hidden_size"), Space("normed", "hidden_size")
        >>> maps = {stream: Map.repeat(2, 4, 4.0)}
        >>> Normalised(stream).grow(Growth(normed, 2, 4, maps=maps)).write.tolist()
        [1.0, 1.0, 1.0, 1.0]
    """

    of: Space
    epsilon: str | float | None = None

    def grow(self, g: Growth) -> Map:
        of, root = g.maps[self.of], g.energy(self.of) ** 0.5
        if not of.averages:
            return of.scaled(1 / root)
        copies = np.bincount(of.source, ~of.means, minlength=g.n)[of.source]
        return Map(g.n, of.source, np.where(of.means, 0.0, of.write / root), root / (copies * of.write))

    def follows(self) -> tuple[Space, ...]:
        return (self.of,)

    def __str__(self) -> str:
        return f"{self.of}, normalised"


@dataclass(frozen=True)
class UnitLength(Law):
    """``x / |x|``. The length of x' is ``sqrt(energy * m / n)`` times that of x, so write is
    divided by that factor, and products of two such vectors stay as they are.

    Args:
        of: the space before the division.

    Raises:
        IllegalShapeError: if x' carries its mean, which would add to its length.
    """

    of: Space

    def grow(self, g: Growth) -> Map:
        if g.maps[self.of].averages:
            g.require_multiple("its length would contain the mean of its coordinates")
        return g.maps[self.of].scaled((g.energy(self.of) * g.m / g.n) ** -0.5)

    def follows(self) -> tuple[Space, ...]:
        return (self.of,)

    def __str__(self) -> str:
        return f"{self.of}, of length 1"


@dataclass(frozen=True)
class Dual(Law):
    """Write and read of another space swapped. A tied head reads with the matrix that the embedding
    writes with: the weights that are ``write`` to the embedding must be ``read`` to the head.

    Args:
        of: the space that the shared matrix writes.

    Example:
        >>> stream, final = Space("residual", "hidden_size"), Space("final", "hidden_size")
        >>> grown = Dual(stream).grow(Growth(final, 2, 4, maps={stream: Map.repeat(2, 4)}))
        >>> grown.write.tolist(), grown.read.tolist()
        ([0.5, 0.5, 0.5, 0.5], [1.0, 1.0, 1.0, 1.0])
    """

    of: Space

    def grow(self, g: Growth) -> Map:
        return g.maps[self.of].dual

    def follows(self) -> tuple[Space, ...]:
        return (self.of,)

    def __str__(self) -> str:
        return f"dual of {self.of}"


@dataclass(frozen=True)
class Scaled(Law):
    """A space that the model multiplies by a constant to get the space ``into``. Where the constant
    depends on the width, ``write = into.write * old constant / new constant``.

    Args:
        into: the space after the multiplication.
        constant: the name of the constant (`growth.architectures.Architecture.constants`).

    Example:
        T5's first version multiplies by d_model**(-1/2) before the head. From 4 to 16 features that
        constant halves, so what is multiplied must be twice as large:

        >>> final, head = Space("final", "hidden_size"), Space("head", "hidden_size")
        >>> g = Growth(final, 4, 16, ratios={"output_scale": 0.5}, maps={head: Map.repeat(4, 16)})
        >>> float(Scaled(head, "output_scale").grow(g).write[0])
        2.0
    """

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
