"""Laws: from (n, m) to a map, or a refusal with its reason, imposed by the non-linearity that
touches the space.

=================  ======================================================  ==========================================
law                condition on the map                                    write, read
=================  ======================================================  ==========================================
`Copied`           f(x)[j] must be the copy of f(x)[i]: write = 1          1, 1/count
`Linear`           none (values, a norm's output)                          unit: 1, 1/count; orthogonal: 1/sqrt(count)
`RMSNorm`          sum(write**2) over copies constant                      write: sqrt(s/count), one s for all
`Isometric`        likewise, with an energy of 1                           write: sqrt((m/n)/count)
`LayerNorm`        the mean is kept too                                    equal counts, and mean(x) beyond them
`FixedSize`            may not grow, for a reason                              1, 1
=================  ======================================================  ==========================================

Spaces that follow another one have theirs in `growth.algebra.derived_laws`, attention and positions
in `growth.algebra.attention_laws`."""

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
    """One space about to grow, and what its law may look at.

    Args:
        space: the space.
        n, m: old and new number of coordinates.
        scaling: ``unit`` copies activations as they are; ``orthogonal`` divides them by
            sqrt(count), so that norms are kept.
        rope: how rotary pairs are laid out when head_dim grows, ``slots`` or ``pairs``.
        ratios: new over old value of each constant of the model that depends on its width.
        maps: spaces already grown.
        isometric: an epsilon that cannot move (the code fixes it, or other norms share it) wants
            the energy of x' to be that of x.
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
        """Which coordinate each new one copies: as in ``layout``, or in blocks ``[x; x; ...]``."""
        return Map.repeat(self.n, self.m).source if layout is None else layout.map(self.maps).source

    def energy(self, of: Space) -> float:
        """The energy of another space, which must have one."""
        energy = self.maps[of].energy
        if energy is None:
            raise self.refuse(f"the copies of '{of}' do not share one energy", "Use a whole multiple.")
        return energy

    def require_multiple(self, reason: str) -> None:
        """Refuse m that is not a whole multiple of n."""
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
        """The constants of the model it needs."""
        return ()


@dataclass(frozen=True)
class Copied(Law):
    """Each copy is the coordinate itself: ``f(x)[j] = f(x[source[j]])`` needs write = 1 for any
    elementwise f, and for a head computed from its own queries, keys and values alone.
    ``touched_by`` is for messages."""

    touched_by: str = "an elementwise function"

    def grow(self, g: Growth) -> Map:
        return Map.repeat(g.n, g.m)

    def __str__(self) -> str:
        return f"copied ({self.touched_by})"


@dataclass(frozen=True)
class Linear(Law):
    """Touched by linear maps alone: any scale will do, so the caller's choice.

    ``layout``: another axis that decides where copies lie. Where that carries its mean, a norm
    leaves nothing: coordinates there are silent, and are read like their neighbours, so that what
    is written there learns from the first step."""

    layout: Axis | None = None

    def grow(self, g: Growth) -> Map:
        source = g.source(self.layout)
        alive = np.ones(g.m) if self.layout is None else 1.0 - self.layout.map(g.maps).means
        count: Floats = np.bincount(source, alive, minlength=g.n)[source].astype(np.float64)
        write: Floats = count ** (0.0 if g.scaling == "unit" else -0.5)
        return Map(g.n, source, alive * write, 1.0 / (count * write))

    def follows(self) -> tuple[Space, ...]:
        return _spaces(self.layout)

    def __str__(self) -> str:
        return "linear"


@dataclass(frozen=True)
class RMSNorm(Law):
    """``x / sqrt(mean(x**2) + eps)``: the mean square must change by one factor c, ``sum(write**2
    over copies) = c * m / n``.

    orthogonal has c = n/m (write = 1/sqrt(count)), and eps becomes eps * c. unit has write = 1 on
    all copies if m is a whole multiple (c = 1). Otherwise a root cannot be avoided, and it goes
    where it costs least: write = sqrt(s/count), where s is the count that most new coordinates
    have, so that those are written without rounding, and eps takes the rest. Where eps cannot move,
    c = 1 and write = sqrt((m/n)/count).

    Args:
        layout: the axis that decides where copies lie, where a norm stands before rotary positions
            (query and key norms).
        shares_epsilon_with: the space whose norm shares the epsilon. A linear layer writes what is normed here at
            any scale, so it takes that energy, and one epsilon serves both.
    """

    layout: Axis | None = None
    shares_epsilon_with: Space | None = None

    def grow(self, g: Growth) -> Map:
        source = g.source(self.layout)
        counts = np.bincount(source, minlength=g.n)
        most = float(np.bincount(counts[source]).argmax()) if g.m else 1.0
        stock = 1.0 if g.scaling == "orthogonal" else g.m / g.n if g.isometric else most
        squares = stock if self.shares_epsilon_with is None else g.energy(self.shares_epsilon_with) * g.m / g.n
        return Map.copies(g.n, source, (squares / counts) ** 0.5)

    def follows(self) -> tuple[Space, ...]:
        return _spaces(self.layout, self.shares_epsilon_with)

    def __str__(self) -> str:
        return "RMS norm"


@dataclass(frozen=True)
class Isometric(Law):
    """What enters a norm whose epsilon cannot move: energy 1, whatever the scaling, ``write =
    sqrt((m/n)/count)``. ``layout``: as for `Linear`. A product with another space has that one's
    energy, which is how a norm over all heads stands before heads of any count."""

    layout: Axis | None = None

    def grow(self, g: Growth) -> Map:
        source = g.source(self.layout)
        return Map.copies(g.n, source, (g.m / g.n / np.bincount(source, minlength=g.n)) ** 0.5)

    def follows(self) -> tuple[Space, ...]:
        return _spaces(self.layout)

    def __str__(self) -> str:
        return "isometric"


@dataclass(frozen=True)
class LayerNorm(Law):
    """``(x - mean(x)) / sqrt(var(x) + eps)``: with equal counts the mean and the variance of x' are
    those of x, up to write and its square.

    Otherwise r = m // n whole copies carry a factor e and the other coordinates carry e * mean(x):
    the mean is e * mean(x), and they add nothing to the variance, which is ``e**2 * r*n/m`` times
    the old one (so c = e**2 * r*n/m, and e is chosen as `RMSNorm` chooses write). Normalised, the
    copies are e / sqrt(c) times the old ones and the mean coordinates 0. A norm that leaves into
    this space (post-norm) could not write them, and refuses (`growth.algebra.roles.Scale`).

    Args:
        elementwise: the space is touched by an elementwise function as well, which fixes write = 1,
            and whose mean nobody could write.
        layout, shares_epsilon_with: as for `RMSNorm`.
    """

    elementwise: bool = False
    layout: Axis | None = None
    shares_epsilon_with: Space | None = None

    def grow(self, g: Growth) -> Map:
        if self.elementwise or self.layout is not None:
            g.require_multiple("a layer norm takes the mean over all coordinates")
        if g.m % g.n == 0:
            return (
                Map.copies(g.n, g.source(self.layout))
                if self.elementwise
                else RMSNorm(self.layout, self.shares_epsilon_with).grow(g)
            )
        times = g.m // g.n
        square = 1.0 / times if g.scaling == "orthogonal" else g.m / (times * g.n) if g.isometric else 1.0
        e = (
            square if self.shares_epsilon_with is None else g.energy(self.shares_epsilon_with) * g.m / (times * g.n)
        ) ** 0.5
        mean = np.arange(g.m) >= times * g.n
        return Map(g.n, np.arange(g.m) % g.n, np.full(g.m, e), np.where(mean, 0.0, 1.0 / (times * e)), mean)

    def follows(self) -> tuple[Space, ...]:
        return _spaces(self.layout, self.shares_epsilon_with)

    def __str__(self) -> str:
        return "layer norm, elementwise" if self.elementwise else "layer norm"


@dataclass(frozen=True)
class FixedSize(Law):
    """May not grow, for ``reason``; ``remedy`` says what to do instead."""

    reason: str
    remedy: str

    def grow(self, g: Growth) -> Map:
        if g.m != g.n:
            raise g.refuse(self.reason, self.remedy)
        return Map.identity(g.n)

    def __str__(self) -> str:
        return f"fixed size: {self.reason}"


def _spaces(*axes: Axis | None) -> tuple[Space, ...]:
    """The spaces some axes are made of, in a fixed order."""
    return tuple(sorted({space for axis in axes if axis is not None for space in axis.spaces()}, key=str))
