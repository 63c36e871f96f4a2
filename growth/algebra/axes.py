"""Axes: what one dimension of a tensor ranges over, a space or a product or concatenation of
spaces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from growth.algebra.maps import Map, _whole


class Axis(ABC):
    """What one dimension of a tensor ranges over: a space, a fixed count, a product ``a * b`` or a
    concatenation ``a + b``."""

    def __mul__(self, inner: Axis) -> Axis:
        return Product(self, inner)

    def __add__(self, after: Axis) -> Axis:
        return Concatenation(self, after)

    @abstractmethod
    def map(self, maps: Mapping[Space, Map]) -> Map:
        """The map of this axis, from those of its spaces."""

    @abstractmethod
    def spaces(self) -> frozenset[Space]:
        """The spaces it is made of."""


@dataclass(frozen=True)
class Space(Axis):
    """A named set of coordinates that grows as one.

    Args:
        name: how messages call it.
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
    outer: Axis
    inner: Axis

    def map(self, maps: Mapping[Space, Map]) -> Map:
        return self.outer.map(maps) * self.inner.map(maps)

    def spaces(self) -> frozenset[Space]:
        return self.outer.spaces() | self.inner.spaces()

    def __str__(self) -> str:
        return f"{self.outer} * {self.inner}"


@dataclass(frozen=True)
class Concatenation(Axis):
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
    """A count that never grows, as a factor or part of an axis: the two halves of ``ffn *
    Fixed(2)``."""

    count: int

    def map(self, maps: Mapping[Space, Map]) -> Map:
        return Map.identity(self.count)

    def spaces(self) -> frozenset[Space]:
        return frozenset()

    def __str__(self) -> str:
        return str(self.count)


@dataclass(frozen=True)
class Interleaved(Axis):
    """``outer * (a + b + ...)`` where each part may have an outer map with coefficients of its own:
    ``parts`` are products, and block j holds coordinate j of every part's outer axis. Fused ``[q;
    k; v]`` head by head, where silent heads are silent in v alone."""

    parts: tuple[Product, ...]

    def map(self, maps: Mapping[Space, Map]) -> Map:
        outers, inners = [part.outer.map(maps) for part in self.parts], [part.inner.map(maps) for part in self.parts]
        _whole(*outers, *inners)
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
