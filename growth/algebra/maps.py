"""Maps and their algebra: how the coordinates of an axis grow.

Old activations x (n coordinates) become x' (m coordinates) with ``x'[j] = write[j] *
x[source[j]]``. A parameter that
*writes* the axis takes ``W'[j] = write[j] * W[source[j]]``, one that *reads* it takes
``W'[..., j] = read[j] * W[..., source[j]]``.
Reading undoes writing when, for every old coordinate i, ``sum(write[j] * read[j] for j with
source[j] == i) == 1``. That sum is the whole proof of a linear layer: ``W'x' = sum_j W[source[j]]
read[j] write[j] x[source[j]] = W x``.

A coordinate may also carry the *mean* of x instead of one of its coordinates: ``x'[j] = write[j] *
mean(x)``, and whoever produces it takes the mean of its rows. Nobody needs to read it back. Layer
norms want it (`growth.algebra.laws.LayerNorm`)."""

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
    """Powers of two where float64 is off one by a few units in the last place, as products of roots
    are: they round nothing."""
    size = np.abs(coefficients)
    powers = 2.0 ** np.round(np.log2(np.where(size > 0, size, 1.0)))
    near = (size > 0) & (np.abs(size - powers) < 1e-14 * powers)
    return np.where(near, np.sign(coefficients) * powers, coefficients)


def powers_of_two(coefficients: Floats) -> Booleans:
    """Which are powers of two or 0, of either sign, so that no float format rounds what they
    scale."""
    mantissas = np.frexp(np.abs(snapped(coefficients)))[0]
    return np.asarray((coefficients == 0) | (mantissas == 0.5))


@dataclass(frozen=True, eq=False, repr=False)
class Map:
    """A growth of one axis from n to m coordinates.

    Args:
        n: number of old coordinates.
        source: ``[m]``, the old coordinate that each new one copies.
        write: ``[m]``, factor on the activation, hence on every parameter that produces it.
        read: ``[m]``, factor on every parameter that consumes it.
        mean: ``[m]``, where the old value is the mean over all n coordinates, or None for nowhere.

    Raises:
        ValueError: if reading does not undo writing, so that a lossy map cannot be built by
            accident.
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
        """``[m]``, where the old value is the mean over all n coordinates."""
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
        """Mean square of x' over mean square of x, ``sum(write**2 over copies) * n / m``; None
        where it differs by coordinate. Where some coordinates carry the mean, the same of the
        deviations from it, which are zero there."""
        per_source = np.bincount(self.source, np.where(self.means, 0.0, self.write**2), minlength=self.n)
        if not np.allclose(per_source, per_source[0], rtol=1e-12, atol=0):
            return None
        return float(per_source[0] * self.n / self.m)

    @property
    def dual(self) -> Map:
        """Write and read swapped: what stands between the final norm and a head that shares its
        matrix with the embedding."""
        return Map(self.n, self.source, self.read, self.write, self.mean)

    def scaled(self, factor: float) -> Map:
        """The same copies, ``factor`` times larger."""
        return Map(self.n, self.source, self.write * factor, self.read / factor, self.mean)

    def __mul__(self, inner: Map) -> Map:
        """Kronecker product ``self * inner``: the outer index varies slowly."""
        _whole(self, inner)
        return Map(
            self.n * inner.n,
            (self.source[:, None] * inner.n + inner.source[None, :]).ravel(),
            np.outer(self.write, inner.write).ravel(),
            np.outer(self.read, inner.read).ravel(),
        )

    def __add__(self, after: Map) -> Map:
        """Concatenation: block diagonal, offsets added."""
        _whole(self, after)
        return Map(
            self.n + after.n,
            np.concatenate([self.source, after.source + self.n]),
            np.concatenate([self.write, after.write]),
            np.concatenate([self.read, after.read]),
        )

    @classmethod
    def identity(cls, n: int) -> Map:
        return cls(n, np.arange(n, dtype=np.int64), np.ones(n), np.ones(n))

    @classmethod
    def repeat(cls, n: int, m: int, write: float | Floats = 1.0) -> Map:
        """Blocks ``[x; x; ...]``, the last cut off at m. ``write``: one factor, or one per old
        coordinate; read = 1/(count * write)."""
        return cls.copies(n, np.arange(m, dtype=np.int64) % n, write)

    @classmethod
    def copies(cls, n: int, source: Integers, write: float | Floats = 1.0) -> Map:
        """Copies laid out as ``source`` says. ``write``: one factor, or one per old coordinate;
        read = 1/(count * write)."""
        counts = np.bincount(source, minlength=n)
        factors = np.broadcast_to(np.asarray(write, dtype=np.float64), (n,))[source]
        return cls(n, source, factors, 1.0 / (counts[source] * factors))


def _whole(*parts: Map) -> None:
    if any(part.averages for part in parts):
        raise IllegalGrowthError(
            "a space that carries its mean is part of a larger axis here, whose mean would be another. Use a whole "
            "multiple for it."
        )
