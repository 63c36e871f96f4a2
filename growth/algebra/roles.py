"""Roles: what one dimension of one parameter does, and the coefficients that follow.

======================  ==========================================  ==========================================
role                    new weight along this dimension             gradient of the new weight
======================  ==========================================  ==========================================
``Writes(axis)``        ``write[j] * W[source[j]]``                 ``read[j] * G[source[j]]``
``Reads(axis)``         ``read[j] * W[source[j]]``                  ``write[j] * G[source[j]]``
``Picks(axis)``         likewise, and no noise                      likewise
``Gain(enters, out)``   ``out.write[j] / h.write[j] * W[...]``      ``out.read[j] * h.write[j] * G[...]``
``Scale(enters, out)``  likewise, without a norm: h is the input    likewise
``Keeps()``             ``W``                                       ``G``
======================  ==========================================  ==========================================

h is the normalised input (`Gain`).

Gradients: with y = W x and y', x' grown, dL/dy'[i] = read_y[i] dL/dy and x'[j] = write_x[j] x,
hence dL/dW'[i, j] = read_y[i] write_x[j] dL/dW. Two exceptions. Of rotary slots that start silent
(`growth.algebra.attention_laws.Scores`) no old gradient says what a key there receives, and the
coefficient 0 stands for "unknown". And where a normed space carries its mean
(`growth.algebra.laws.LayerNorm`), what the coordinates that carry it receive, G in all, is unknown
too, and the norms take G / (r n) from each of the r n copies: for what writes that space, the
coefficients say the gradient up to this one number.

A writer is what tensor parallelism calls column-wise, a reader row-wise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from growth.algebra.axes import Axis, Space
from growth.algebra.dimensions import Dimension
from growth.algebra.maps import Floats, Map, snapped
from growth.errors import IllegalShapeError

Maps = Mapping[Space, Map]


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
    """Produces the activations of ``axis``: the output dimension of a matrix, a bias, an
    embedding's features."""

    axis: Axis

    def resolve(self, size: int, maps: Maps) -> Dimension:
        grown = self.axis.map(maps)
        return Dimension(grown.n, grown.source, grown.write, grown.read, mean=grown.mean)

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
        return Dimension(grown.n, grown.source, grown.read, grown.write, summed=True, mean=grown.mean)

    def spaces(self) -> frozenset[Space]:
        return self.axis.spaces()

    def __str__(self) -> str:
        return f"reads {self.axis}"


@dataclass(frozen=True)
class Picks(Reads):
    """Consumes the old coordinates of ``axis`` where they lie among new ones that are no copies of
    them (`growth.algebra.attention_laws.Sinusoids`), so that no weight but 0 there leaves the
    function as it is."""

    def resolve(self, size: int, maps: Maps) -> Dimension:
        return replace(super().resolve(size, maps), summed=False)

    def __str__(self) -> str:
        return f"picks {self.axis}"


@dataclass(frozen=True)
class Scale(Role):
    """A factor per coordinate between the axis that enters and the one that leaves: ``y[j] = w[j] *
    x[j]`` (LayerScale).

    ``w'[j] = leaves.write[j] / enters.write[j] * w[source[j]]``. It cannot write a mean, which is
    no multiple of anything that enters."""

    enters: Axis
    leaves: Axis
    source_of_trouble: ClassVar[str] = "a factor per coordinate"

    def resolve(self, size: int, maps: Maps) -> Dimension:
        enters, leaves = self.enters.map(maps), self.leaves.map(maps)
        if not np.array_equal(enters.source, leaves.source):
            raise _not_whole(self.leaves, leaves, f"its copies and those of '{self.enters}' do not match", self.enters)
        means = enters.means | leaves.means
        if (leaves.write[means] != 0).any():
            reason = f"it would have to carry the mean of itself, which {self.source_of_trouble} cannot write"
            raise _not_whole(self.leaves, leaves, reason)
        arriving = np.where(means, 1.0, self.arriving(enters))
        value, gradient = np.where(means, 1.0, leaves.write / arriving), np.where(means, 0.0, leaves.read * arriving)
        return Dimension(enters.n, leaves.source, snapped(value), snapped(gradient))

    def arriving(self, enters: Map) -> Floats:
        """What the parameter multiplies, over the old model's: the write coefficients of the axis
        that enters."""
        return enters.write

    def spaces(self) -> frozenset[Space]:
        return self.enters.spaces() | self.leaves.spaces()

    def __str__(self) -> str:
        return f"scale {self.enters} -> {self.leaves}"


@dataclass(frozen=True)
class Gain(Scale):
    """A norm's gain, between the axis that enters it and the one that leaves.

    The norm turns x' (energy c, see `Map.energy`) into ``h.write[j] = write[j] / sqrt(c)`` times
    the old normalised input h, so the gain supplies the rest of what the leaving axis wants. Where
    x' is its own mean, h is 0 and any gain will do: 1, so that what is written there learns from
    the first step, if those who read it do not start at 0.

    Args:
        offset: what the model adds to the stored weight (Gemma multiplies by 1 + w): ``offset + w'
            = c (offset + w)``.
        epsilon: the norm's epsilon: a config field, a number the code fixes, or None for the
            family's.
    """

    offset: float = 0.0
    epsilon: str | float | None = None
    source_of_trouble: ClassVar[str] = "a norm"

    def resolve(self, size: int, maps: Maps) -> Dimension:
        plain = super().resolve(size, maps)
        return (
            replace(plain, shift=self.offset * (plain.value - 1.0))
            if self.offset and (plain.value != 1.0).any()
            else plain
        )

    def arriving(self, enters: Map) -> Floats:
        if enters.energy is None:
            raise _not_whole(
                self.enters, enters, "its copies do not share one energy, so that its norm would not keep their ratios"
            )
        arriving: Floats = enters.write / enters.energy**0.5
        return arriving

    def __str__(self) -> str:
        return f"gain {self.enters} -> {self.leaves}"


def _not_whole(axis: Axis, grown: Map, reason: str, *others: Axis) -> IllegalShapeError:
    above = grown.n * -(-grown.m // grown.n)
    blame = {space.size for part in (axis, *others) for space in part.spaces()}
    return IllegalShapeError(
        f"cannot grow '{axis}' from {grown.n} to {grown.m}: {reason}. Use a multiple of {grown.n}: {above}.", blame
    )
