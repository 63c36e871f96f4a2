"""Axes: what one dimension of a tensor ranges over.

An axis is a `Space`, a `Fixed` count, a product ``a * b`` or a concatenation ``a + b``. The queries
of grouped attention range over ``kv_heads * queries_per_kv * query``, and a fused projection over
``queries + keys + values``. The map of an axis follows from those of its spaces.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from growth.algebra.maps import Map, _refuse_means


class Axis(ABC):
    """What one dimension of a tensor ranges over.

    Example:
        >>> heads, head_dim = Space("heads", "num_attention_heads"), Space("head_dim", "head_dim")
        >>> axis = heads * head_dim
        >>> str(axis), axis.map({heads: Map.repeat(2, 4), head_dim: Map.identity(3)})
        ('heads * head_dim', Map(6 -> 12))
    """

    def __mul__(self, inner: Axis) -> Axis:
        return Product(self, inner)

    def __add__(self, after: Axis) -> Axis:
        return Concatenation(self, after)

    @abstractmethod
    def map(self, maps: Mapping[Space, Map]) -> Map:
        """The map of this axis, from the maps of its spaces."""

    @abstractmethod
    def spaces(self) -> frozenset[Space]:
        """The spaces it is made of."""


@dataclass(frozen=True)
class Space(Axis):
    """A named set of coordinates that grows as one.

    Two spaces may have the same size and still grow by different maps: what enters a norm and what
    leaves it are two spaces of ``hidden_size`` coordinates.

    Args:
        name: the name in messages.
        size: the name of its size (`growth.architectures.sizes`): ``hidden_size``, ``head_dim``,
            ...
    """

    name: str
    size: str

    def map(self, maps: Mapping[Space, Map]) -> Map:
        return maps[self]

    def spaces(self) -> frozenset[Space]:
        return frozenset({self})

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Product(Axis):
    """``outer * inner``: the index ``outer index * size of inner + inner index``."""

    outer: Axis
    inner: Axis

    def map(self, maps: Mapping[Space, Map]) -> Map:
        return self.outer.map(maps) * self.inner.map(maps)

    def spaces(self) -> frozenset[Space]:
        return self.outer.spaces() | self.inner.spaces()

    def __str__(self) -> str:
        return " * ".join(
            f"({part})" if isinstance(part, Concatenation) else str(part) for part in (self.outer, self.inner)
        )


@dataclass(frozen=True)
class Concatenation(Axis):
    """``before + after``: first the coordinates of the one, then those of the other."""

    before: Axis
    after: Axis

    def map(self, maps: Mapping[Space, Map]) -> Map:
        return self.before.map(maps) + self.after.map(maps)

    def spaces(self) -> frozenset[Space]:
        return self.before.spaces() | self.after.spaces()

    def __str__(self) -> str:
        return f"{self.before} + {self.after}"


@dataclass(frozen=True)
class Fixed(Axis):
    """A count that never grows, as part of a larger axis.

    Example:
        Gate and up-projection, alternating in one fused matrix:

        >>> ffn = Space("ffn", "intermediate_size")
        >>> (ffn * Fixed(2)).map({ffn: Map.repeat(2, 4)}).source.tolist()
        [0, 1, 2, 3, 0, 1, 2, 3]
    """

    count: int

    def map(self, maps: Mapping[Space, Map]) -> Map:
        return Map.identity(self.count)

    def spaces(self) -> frozenset[Space]:
        return frozenset()

    def __str__(self) -> str:
        return str(self.count)


@dataclass(frozen=True)
class Interleaved(Axis):
    """``outer * (a + b + ...)``, where the outer map may have other coefficients for every part.

    ``[q; k; v]`` fused head by head is such an axis. Where new heads have silent values, the outer
    map of v has zeros that those of q and k have not.

    Args:
        parts: one product ``outer * inner`` per part. Block j of the axis holds coordinate j of the
            outer axis of every part, so the outer maps must have the same sources.

    Example:
        >>> head, q, v = Space("head", "h"), Space("q", "d"), Space("v", "d")
        >>> fused = Interleaved((Product(head, q), Product(head, v)))
        >>> fused.map({head: Map.repeat(1, 2), q: Map.identity(2), v: Map.identity(1)}).source.tolist()
        [0, 1, 2, 0, 1, 2]
    """

    parts: tuple[Product, ...]

    def map(self, maps: Mapping[Space, Map]) -> Map:
        outers, inners = [part.outer.map(maps) for part in self.parts], [part.inner.map(maps) for part in self.parts]
        _refuse_means(*outers, *inners)
        width, blocks, offset = sum(inner.n for inner in inners), [], 0
        for outer, inner in zip(outers, inners, strict=True):
            source = outer.source[:, None] * width + offset + inner.source[None, :]
            blocks.append((source, np.outer(outer.write, inner.write), np.outer(outer.read, inner.read)))
            offset += inner.n
        joined = (np.concatenate(column, axis=1).ravel() for column in zip(*blocks, strict=True))
        return Map(outers[0].n * width, *joined)

    def spaces(self) -> frozenset[Space]:
        return frozenset().union(*(part.spaces() for part in self.parts))

    def __str__(self) -> str:
        return f"[{' | '.join(map(str, self.parts))}]"
