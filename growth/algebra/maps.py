"""Maps: how the coordinates of an axis grow.

Old activations x with n coordinates become x' with m coordinates:

    x'[j] = write[j] * x[source[j]].

A parameter that *writes* the axis becomes ``W'[j] = write[j] * W[source[j]]``. One that *reads* it
becomes ``W'[..., j] = read[j] * W[..., source[j]]``. Reading undoes writing when

    sum(write[j] * read[j] for j with source[j] == i) == 1    for every old coordinate i.

Then a linear layer computes what it did before:

    W' x' = sum_j read[j] W[..., source[j]] write[j] x[source[j]] = W x.

A new coordinate may also carry the *mean* of x, ``x'[j] = write[j] * mean(x)``. The parameters that
write it take the mean of their rows, and no parameter reads it. LayerNorm needs such coordinates to
grow to sizes that are not multiples of n (`growth.algebra.laws.LayerNorm`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from growth.errors import IllegalGrowthError

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]


def snapped(coefficients: Floats) -> Floats:
    """The coefficients, with those within 1e-14 of a power of two replaced by it.

    Products of roots miss a power of two by a few ulps; the power itself scales without rounding.

    Example:
        >>> root = np.sqrt(2.0)
        >>> float(root * root), float(snapped(np.array([root * root]))[0])
        (2.0000000000000004, 2.0)
    """
    size = np.abs(coefficients)
    powers = 2.0 ** np.round(np.log2(np.where(size > 0, size, 1.0)))
    near = (size > 0) & (np.abs(size - powers) < 1e-14 * powers)
    return np.where(near, np.sign(coefficients) * powers, coefficients)


def powers_of_two(coefficients: Floats) -> Booleans:
    """Which coefficients are 0 or a power of two of either sign: scaling by them rounds nothing in
    any float format.

    Example:
        >>> powers_of_two(np.array([0.25, -2.0, 0.0, 3.0])).tolist()
        [True, True, True, False]
    """
    mantissas = np.frexp(np.abs(snapped(coefficients)))[0]
    return np.asarray((coefficients == 0) | (mantissas == 0.5))


@dataclass(frozen=True, eq=False, repr=False)
class Map:
    """The growth of one axis from n to m coordinates.

    Args:
        n: number of old coordinates.
        source: ``[m]``, the old coordinate that each new one copies.
        write: ``[m]``, factor on the activation, hence on every parameter that produces it.
        read: ``[m]``, factor on every parameter that consumes it.
        mean: ``[m]``, where the new coordinate carries the mean over all n coordinates instead of a
            copy; None for nowhere.

    Raises:
        ValueError: if reading does not undo writing, so that a lossy map cannot be built by
            accident.

    Example:
        Three coordinates become five: ``[x0, x1, x2, x0, x1]``. Coordinates with two copies are
        read with 1/2 each, so the sum over copies is the old value:

        >>> grown = Map.repeat(3, 5)
        >>> grown.source.tolist(), grown.read.tolist()
        ([0, 1, 2, 0, 1], [0.5, 0.5, 1.0, 0.5, 0.5])
        >>> x, w = np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0])
        >>> float(w @ x), float((grown.read * w[grown.source]) @ (grown.write * x[grown.source]))
        (140.0, 140.0)
    """

    n: int
    source: Integers
    write: Floats
    read: Floats
    mean: Booleans | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "write", snapped(self.write))
        object.__setattr__(self, "read", snapped(self.read))
        if not self.source.shape == self.write.shape == self.read.shape:
            raise ValueError(
                f"source, write and read differ in shape: {self.source.shape}, {self.write.shape}, {self.read.shape}"
            )
        if self.m and not (self.source.min() >= 0 and self.source.max() < self.n):
            raise ValueError(f"a source lies outside the {self.n} old coordinates")
        if (self.write * self.read)[self.means].any():
            raise ValueError("a coordinate that carries the mean is read, or one that is read as the mean is written")
        undone = np.bincount(self.source, self.write * self.read, minlength=self.n)
        if not np.allclose(undone, 1.0, rtol=0, atol=1e-12):
            worst = int(np.abs(undone - 1).argmax())
            raise ValueError(
                f"reading does not undo writing: the copies of coordinate {worst} add up to {undone[worst]}, not 1"
            )

    @cached_property
    def means(self) -> Booleans:
        """``[m]``, where the mean over all n coordinates is carried."""
        return np.zeros(len(self.source), dtype=np.bool_) if self.mean is None else self.mean

    @property
    def averages(self) -> bool:
        """Whether some coordinate carries the mean."""
        return bool(self.means.any())

    @property
    def m(self) -> int:
        """Number of new coordinates."""
        return len(self.source)

    @cached_property
    def counts(self) -> Integers:
        """``[n]``, how many copies each old coordinate has."""
        return np.bincount(self.source, minlength=self.n)

    def __repr__(self) -> str:
        return f"Map({self.n} -> {self.m})"

    @property
    def grows(self) -> bool:
        """True unless this is the identity on coordinates."""
        return self.m != self.n or not np.array_equal(self.source, np.arange(self.n))

    @cached_property
    def energy(self) -> float | None:
        """Mean square of x' over mean square of x: ``sum(write**2 over copies) * n / m``. None
        where that sum differs between old coordinates. For a map with means it is the same of ``x -
        mean(x)``, which is zero on coordinates that carry the mean.

        Example:
            >>> Map.repeat(3, 6).energy, Map.repeat(3, 6, 2.0).energy, Map.repeat(3, 5).energy
            (1.0, 4.0, None)
        """
        per_source = np.bincount(self.source, np.where(self.means, 0.0, self.write**2), minlength=self.n)
        if not np.allclose(per_source, per_source[0], rtol=1e-12, atol=0):
            return None
        return float(per_source[0] * self.n / self.m)

    @property
    def dual(self) -> Map:
        """Write and read swapped: the map between the final norm and a head that shares its matrix
        with the embedding."""
        return Map(self.n, self.source, self.read, self.write, self.mean)

    def scaled(self, factor: float) -> Map:
        """The same copies, ``factor`` times larger."""
        return Map(self.n, self.source, self.write * factor, self.read / factor, self.mean)

    def __mul__(self, inner: Map) -> Map:
        """Kronecker product: the map of ``outer index * inner.n + inner index``.

        Example:
            Two heads become four, each keeping its three features:

            >>> (Map.repeat(2, 4) * Map.identity(3)).source.tolist()
            [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]
        """
        _refuse_means(self, inner)
        return Map(
            self.n * inner.n,
            (self.source[:, None] * inner.n + inner.source[None, :]).ravel(),
            np.outer(self.write, inner.write).ravel(),
            np.outer(self.read, inner.read).ravel(),
        )

    def __add__(self, after: Map) -> Map:
        """Concatenation: the coordinates of ``after`` follow those of this map.

        Example:
            >>> (Map.repeat(2, 4) + Map.identity(1)).source.tolist()
            [0, 1, 0, 1, 2]
        """
        _refuse_means(self, after)
        return Map(
            self.n + after.n,
            np.concatenate([self.source, after.source + self.n]),
            np.concatenate([self.write, after.write]),
            np.concatenate([self.read, after.read]),
        )

    @classmethod
    def identity(cls, n: int) -> Map:
        """The map that changes nothing."""
        return cls(n, np.arange(n, dtype=np.int64), np.ones(n), np.ones(n))

    @classmethod
    def repeat(cls, n: int, m: int, write: float | Floats = 1.0) -> Map:
        """Blocks ``[x; x; ...]``, the last cut off at m; read = 1/(count * write).

        Args:
            n, m: number of coordinates before and after.
            write: one factor, or ``[n]``, one per old coordinate.
        """
        return cls.copies(n, np.arange(m, dtype=np.int64) % n, write)

    @classmethod
    def copies(cls, n: int, source: Integers, write: float | Floats = 1.0) -> Map:
        """Copies laid out as ``source`` ``[m]`` says; read = 1/(count * write).

        Args:
            n: number of old coordinates.
            source: the old coordinate that each new one copies.
            write: one factor, or ``[n]``, one per old coordinate.
        """
        counts = np.bincount(source, minlength=n)
        factors = np.broadcast_to(np.asarray(write, dtype=np.float64), (n,))[source]
        return cls(n, source, factors, 1.0 / (counts[source] * factors))


def _refuse_means(*parts: Map) -> None:
    """Refuse parts of a larger axis that carry their mean: the mean of the whole is another one."""
    if any(part.averages for part in parts):
        raise IllegalGrowthError(
            "a space that carries its mean is part of a larger axis here, whose mean would be another. Use a whole "
            "multiple for it."
        )
