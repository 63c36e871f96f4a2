"""Roles: what one dimension of one parameter does, and the coefficients that follow from it.

======================  =====================================  =====================================
role                    new weight along this dimension        its gradient
======================  =====================================  =====================================
``Writes(axis)``        ``write[j] * W[source[j]]``            ``read[j] * G[source[j]]``
``Reads(axis)``         ``read[j] * W[source[j]]``             ``write[j] * G[source[j]]``
``Picks(axis)``         the same; copies must not differ       the same
``Gain(enters, out)``   ``out.write[j] / h.write[j] * W[..]``  ``out.read[j] * h.write[j] * G[..]``
``Scale(enters, out)``  the same, with h = what enters         the same
``Keeps()``             ``W``                                  ``G``
======================  =====================================  =====================================

h is the normalised input of a norm (`Gain`).

*Gradients.* With y = W x, and y', x' grown, dL/dy'[i] = read_y[i] dL/dy and x'[j] = write_x[j] x.
Hence dL/dW'[i, j] = read_y[i] write_x[j] dL/dW.

*Two gradients are not determined by the small model.*

* New rotary slots start with zero keys (`growth.algebra.attention_laws.Scores`). The small model
  has no gradient for them. The coefficient is 0, and their optimizer state starts at zero.
* Coordinates that carry the mean (`growth.algebra.laws.LayerNorm`) receive a total gradient G that
  the small model does not determine. LayerNorm subtracts G / (r n) from the gradient of each of the
  r n copies. For parameters that write such a space, the coefficients give the gradient up to that
  common offset.

In the words of tensor parallelism, a writer is column-wise and a reader is row-wise.
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
        """The coefficients for a dimension of ``size`` old coordinates.

        Args:
            size: number of old coordinates; only `Keeps` needs it.
            maps: the map of every space.

        Raises:
            IllegalShapeError: where the parameter cannot do its part at these sizes.
        """

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
    """Produces the activations of ``axis``: the output dimension of a matrix, a bias, the features
    of an embedding.

    Example:
        >>> ffn = Space("ffn", "intermediate_size")
        >>> d = Writes(ffn).resolve(2, {ffn: Map.repeat(2, 4)})
        >>> d.value.tolist(), d.gradient.tolist()
        ([1.0, 1.0, 1.0, 1.0], [0.5, 0.5, 0.5, 0.5])
    """

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
    """Consumes the activations of ``axis``: the input dimension of a matrix.

    Example:
        >>> ffn = Space("ffn", "intermediate_size")
        >>> d = Reads(ffn).resolve(2, {ffn: Map.repeat(2, 4)})
        >>> d.value.tolist(), d.gradient.tolist()
        ([0.5, 0.5, 0.5, 0.5], [1.0, 1.0, 1.0, 1.0])
    """

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
    """Reads the old coordinates of ``axis`` from among new ones that are not copies of them
    (`growth.algebra.attention_laws.Sinusoids`). Any other weight than 0 on the new ones would
    change the function, so nothing may be added there."""

    def resolve(self, size: int, maps: Maps) -> Dimension:
        return replace(super().resolve(size, maps), summed=False)

    def __str__(self) -> str:
        return f"picks {self.axis}"


@dataclass(frozen=True)
class Scale(Role):
    """A factor per coordinate between the axis that enters and the one that leaves: ``y[j] = w[j] *
    x[j]`` (LayerScale). It becomes ``w'[j] = leaves.write[j] / enters.write[j] * w[source[j]]``.

    Such a factor cannot write a mean, which is not a multiple of the coordinate that enters.

    Raises:
        IllegalShapeError: if the two axes have different copies, or a mean would have to be
            written.
    """

    enters: Axis
    leaves: Axis
    source_of_trouble: ClassVar[str] = "a factor per coordinate"

    def resolve(self, size: int, maps: Maps) -> Dimension:
        enters, leaves = self.enters.map(maps), self.leaves.map(maps)
        if not np.array_equal(enters.source, leaves.source):
            raise _use_a_multiple(
                self.leaves, leaves, f"its copies and those of '{self.enters}' do not match", self.enters
            )
        means = enters.means | leaves.means
        if (leaves.write[means] != 0).any():
            reason = f"it would have to carry the mean of itself, which {self.source_of_trouble} cannot write"
            raise _use_a_multiple(self.leaves, leaves, reason)
        arriving = np.where(means, 1.0, self.arriving(enters))
        value, gradient = np.where(means, 1.0, leaves.write / arriving), np.where(means, 0.0, leaves.read * arriving)
        return Dimension(enters.n, leaves.source, snapped(value), snapped(gradient))

    def arriving(self, enters: Map) -> Floats:
        """``[m]``, what the parameter multiplies in the new model over what it multiplied in the
        old one: the write coefficients of the axis that enters."""
        return enters.write

    def spaces(self) -> frozenset[Space]:
        return self.enters.spaces() | self.leaves.spaces()

    def __str__(self) -> str:
        return f"scale {self.enters} -> {self.leaves}"


@dataclass(frozen=True)
class Gain(Scale):
    """The gain of a norm, between the axis that enters the norm and the one that leaves.

    The norm turns x', of energy c (`Map.energy`), into ``h.write[j] = write[j] / sqrt(c)`` times
    the old normalised input. The gain supplies the remaining factor, ``leaves.write[j] /
    h.write[j]``. Where x' carries its mean, the normalised input is 0 and any gain keeps the
    function. It is 1 there, so that whatever writes that coordinate gets a gradient from the first
    step, if something reads it.

    Args:
        enters, leaves: the two axes.
        offset: what the model adds to the stored weight (Gemma multiplies by ``1 + w``). Then
            ``offset + w'`` is the coefficient times ``offset + w``.
        epsilon: where the norm's epsilon is kept: a config field, or the number that the code
            fixes; None for the epsilon of the family.

    Example:
        A final norm before a tied head. The embedding writes copies of size 1, so the head reads
        with 1, and the gain must carry the 1/2:

        >>> stream, final = Space("residual", "hidden_size"), Space("final", "hidden_size")
        >>> maps = {stream: Map.repeat(2, 4), final: Map.repeat(2, 4).dual}
        >>> Gain(stream, final).resolve(2, maps).value.tolist()
        [0.5, 0.5, 0.5, 0.5]
    """

    offset: float = 0.0
    epsilon: str | float | None = None
    source_of_trouble: ClassVar[str] = "a norm"

    def resolve(self, size: int, maps: Maps) -> Dimension:
        plain = super().resolve(size, maps)
        if not self.offset or (plain.value == 1.0).all():
            return plain
        return replace(plain, shift=self.offset * (plain.value - 1.0))

    def arriving(self, enters: Map) -> Floats:
        if enters.energy is None:
            raise _use_a_multiple(
                self.enters, enters, "its copies do not share one energy, so that its norm would not keep their ratios"
            )
        arriving: Floats = enters.write / enters.energy**0.5
        return arriving

    def __str__(self) -> str:
        return f"gain {self.enters} -> {self.leaves}"


def _use_a_multiple(axis: Axis, grown: Map, reason: str, *others: Axis) -> IllegalShapeError:
    """The error that names the axis, both sizes, the reason and the next multiple; all sizes of the
    axes are to blame."""
    above = grown.n * -(-grown.m // grown.n)
    blame = {space.size for part in (axis, *others) for space in part.spaces()}
    return IllegalShapeError(
        f"cannot grow '{axis}' from {grown.n} to {grown.m}: {reason}. Use a multiple of {grown.n}: {above}.", blame
    )
