"""Roles: what one dimension of one parameter does, and the coefficients that follow.

======================  ==========================================  ==========================================
role                    new weight along this dimension             gradient of the new weight
======================  ==========================================  ==========================================
``Writes(axis)``        ``write[j] * W[source[j]]``                 ``read[j] * G[source[j]]``
``Reads(axis)``         ``read[j] * W[source[j]]``                  ``write[j] * G[source[j]]``
``Gain(enters, out)``   ``out.write[j] / h.write[j] * W[...]``      ``out.read[j] * h.write[j] * G[...]``
``Keeps()``             ``W``                                       ``G``
======================  ==========================================  ==========================================

h is the normalised input (`Gain`).

Gradients: with y = W x and y', x' grown, dL/dy'[i] = read_y[i] dL/dy and x'[j] = write_x[j] x, hence
dL/dW'[i, j] = read_y[i] write_x[j] dL/dW. The exception are rotary slots that start silent (`growth.law.Scores`): no old
gradient says what a key there receives, and the coefficient 0 stands for "unknown".

A writer is what tensor parallelism calls column-wise, a reader row-wise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from growth.axis import Axis, Floats, Integers, Map, Space

Maps = Mapping[Space, Map]


@dataclass(frozen=True, eq=False, repr=False)
class Dimension:
    """One dimension of one tensor, resolved: ``new[j] = value[j] * old[source[j]]``; ``gradient`` likewise for gradients."""

    old: int
    source: Integers
    value: Floats
    gradient: Floats
    reads: bool = False

    def __repr__(self) -> str:
        return f"Dimension({self.old} -> {self.new})"

    @property
    def new(self) -> int:
        """Number of new coordinates."""
        return len(self.source)


class Role(ABC):
    """What one dimension of one parameter does."""

    @abstractmethod
    def resolve(self, size: int, maps: Maps) -> Dimension:
        """The coefficients for a dimension of ``size`` old coordinates."""

    def spaces(self) -> frozenset[Space]:
        """The spaces it touches."""
        return frozenset()


@dataclass(frozen=True)
class Keeps(Role):
    """A dimension that does not grow: vocabulary, labels, positions, buckets."""

    def resolve(self, size: int, maps: Maps) -> Dimension:
        kept = Map.identity(size)
        return Dimension(size, kept.source, kept.write, kept.read)

    def __str__(self) -> str:
        return "keeps"


@dataclass(frozen=True)
class Writes(Role):
    """Produces the activations of ``axis``: the output dimension of a matrix, a bias, an embedding's features."""

    axis: Axis

    def resolve(self, size: int, maps: Maps) -> Dimension:
        grown = self.axis.map(maps)
        return Dimension(grown.n, grown.source, grown.write, grown.read)

    def spaces(self) -> frozenset[Space]:
        return self.axis.spaces()

    def __str__(self) -> str:
        return f"writes {self.axis}"


@dataclass(frozen=True)
class Reads(Role):
    """Consumes the activations of ``axis``: the input dimension of a matrix."""

    axis: Axis

    def resolve(self, size: int, maps: Maps) -> Dimension:
        grown = self.axis.map(maps)
        return Dimension(grown.n, grown.source, grown.read, grown.write, reads=True)

    def spaces(self) -> frozenset[Space]:
        return self.axis.spaces()

    def __str__(self) -> str:
        return f"reads {self.axis}"


@dataclass(frozen=True)
class Gain(Role):
    """A norm's gain, between the space that enters it and the one that leaves.

    The norm turns x' (energy c, see `Map.energy`) into ``h.write[j] = write[j] / sqrt(c)`` times the old normalised input h,
    so the gain supplies the rest of what the leaving space wants.
    """

    enters: Space
    leaves: Space

    def resolve(self, size: int, maps: Maps) -> Dimension:
        enters, leaves = maps[self.enters], maps[self.leaves]
        if enters.energy is None or not (enters.source == leaves.source).all():
            raise ValueError(f"the copies of '{self.enters}' and '{self.leaves}' do not match across a norm")
        normalised = enters.write / enters.energy**0.5
        return Dimension(enters.n, leaves.source, leaves.write / normalised, leaves.read * normalised)

    def spaces(self) -> frozenset[Space]:
        return frozenset({self.enters, self.leaves})

    def __str__(self) -> str:
        return f"gain {self.enters} -> {self.leaves}"
