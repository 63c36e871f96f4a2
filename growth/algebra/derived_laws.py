"""Laws of spaces that follow another one.

==============  ============================================  ==================================================
law             what it is                                    write
==============  ============================================  ==================================================
`Dual`          read by a matrix that writes the other space  the other's read
`Scaled`        times a constant that depends on the width    the other's, over the constant's ratio
`Normalised`    what a norm without a gain leaves             the other's, over the root of its energy
`UnitLength`    what division by its length leaves            the other's, over the ratio of lengths
==============  ============================================  ==================================================
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from growth.algebra.axes import Space
from growth.algebra.laws import Growth, Law
from growth.algebra.maps import Map


@dataclass(frozen=True)
class Normalised(Law):
    """What a norm without a gain leaves: ``write = of.write / sqrt(energy of the copies)``.
    ``epsilon``: as for `growth.algebra.roles.Gain`."""

    of: Space
    epsilon: str | float | None = None

    def grow(self, g: Growth) -> Map:
        of, c = g.maps[self.of], g.energy(self.of) ** 0.5
        copies = np.bincount(of.source, ~of.means, minlength=g.n)[of.source]
        return (
            Map(g.n, of.source, np.where(of.means, 0.0, of.write / c), c / (copies * of.write))
            if of.averages
            else of.scaled(1 / c)
        )

    def follows(self) -> tuple[Space, ...]:
        return (self.of,)

    def __str__(self) -> str:
        return f"{self.of}, normalised"


@dataclass(frozen=True)
class UnitLength(Law):
    """``x / |x|``: the length of x' is ``sqrt(energy * m / n)`` times that of x. Products of two
    such vectors stay as they are."""

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
    """Write and read of another space swapped: a head whose matrix is the embedding's reads with
    the embedding's write."""

    of: Space

    def grow(self, g: Growth) -> Map:
        return g.maps[self.of].dual

    def follows(self) -> tuple[Space, ...]:
        return (self.of,)

    def __str__(self) -> str:
        return f"dual of {self.of}"


@dataclass(frozen=True)
class Scaled(Law):
    """A constant of the model that depends on its width stands between this space and ``into``:
    ``into = constant * this``, so ``write = into.write * old constant / new constant``."""

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
