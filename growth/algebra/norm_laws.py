"""Laws of norms: what enters an RMSNorm or a LayerNorm.

============  =====================================  ==============================================
law           condition on the map                   write
============  =====================================  ==============================================
`RMSNorm`     sum(write**2) over copies is constant  sqrt(s/count), one s for all
`Isometric`   the same, with energy 1                sqrt((m/n)/count)
`LayerNorm`   the mean is kept too                   equal counts, or r whole copies and then the
                                                     mean; one factor e for all
============  =====================================  ==============================================

The *energy* c of a map is the mean square of x' over that of x (`growth.algebra.maps.Map.energy`).
A norm with ``eps' = c * eps`` then normalises x' as it did x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from growth.algebra.axes import Axis, Space
from growth.algebra.laws import Growth, Law, spaces_of
from growth.algebra.maps import Map


@dataclass(frozen=True)
class RMSNorm(Law):
    """``x / sqrt(mean(x**2) + eps)``: the mean square must change by one factor c, and eps with it.

    ``mean(x'**2) = c * mean(x**2)`` for every x takes ``sum(write**2 over copies) = s`` with one s
    for all old coordinates, so ``write = sqrt(s/count)`` and ``c = s * n/m``. How s is chosen:

    * scaling ``orthogonal``: s = 1, hence c = n/m;
    * scaling ``unit``, and an epsilon that cannot change: s = m/n, hence c = 1;
    * scaling ``unit`` else: s is the commonest number of copies among the new coordinates. Those
      with s copies are written with 1 and do not round. Where m is a multiple of n, c = 1 and eps
      does not change.

    Args:
        layout: the axis that decides where copies lie, for a norm before rotary positions (query
            and key norms).
        shares_epsilon_with: the space whose norm shares the epsilon. A linear layer writes this
            space at any scale, so it takes that space's c, and one epsilon serves both.

    Example:
        Three coordinates become four: one of them has two copies.

        >>> stream = Space("residual", "hidden_size")
        >>> grown = RMSNorm().grow(Growth(stream, 3, 4))
        >>> grown.write.round(4).tolist(), round(grown.energy, 12)
        ([0.7071, 1.0, 1.0, 0.7071], 0.75)
    """

    layout: Axis | None = None
    shares_epsilon_with: Space | None = None

    def grow(self, g: Growth) -> Map:
        source = g.source(self.layout)
        counts = np.bincount(source, minlength=g.n)
        most = float(np.bincount(counts[source]).argmax()) if g.m else 1.0
        s = 1.0 if g.scaling == "orthogonal" else g.m / g.n if g.isometric else most
        if self.shares_epsilon_with is not None:
            s = g.energy(self.shares_epsilon_with) * g.m / g.n
        return Map.copies(g.n, source, (s / counts) ** 0.5)

    def follows(self) -> tuple[Space, ...]:
        return spaces_of(self.layout, self.shares_epsilon_with)

    def __str__(self) -> str:
        return "RMS norm"


@dataclass(frozen=True)
class Isometric(Law):
    """The input of a norm whose epsilon cannot change: energy 1 whatever the scaling, ``write =
    sqrt((m/n)/count)``.

    The energy of a product is the product of energies. A norm over all heads therefore takes this
    law for the heads, and has the energy of a single head, however many heads there are.

    Args:
        layout: the axis that decides where copies lie.

    Example:
        >>> heads = Space("raw heads", "num_attention_heads")
        >>> round(Isometric().grow(Growth(heads, 2, 3)).energy, 12)
        1.0
    """

    layout: Axis | None = None

    def grow(self, g: Growth) -> Map:
        source = g.source(self.layout)
        return Map.copies(g.n, source, (g.m / g.n / np.bincount(source, minlength=g.n)) ** 0.5)

    def follows(self) -> tuple[Space, ...]:
        return spaces_of(self.layout)

    def __str__(self) -> str:
        return "isometric"


@dataclass(frozen=True)
class LayerNorm(Law):
    """``(x - mean(x)) / sqrt(var(x) + eps)``: the mean must be kept, and the variance change by one
    factor c.

    If m is a multiple of n, equal counts keep the mean, and `RMSNorm` gives the rest. Otherwise
    there are r = m // n whole copies with write e, and the remaining coordinates carry ``e *
    mean(x)``. The mean of x' is then ``e * mean(x)``, and these coordinates add nothing to the
    variance: ``var(x') = e**2 * r*n/m * var(x)``, so c = e**2 * r*n/m. As for `RMSNorm`, c is n/m
    with scaling ``orthogonal``; with ``unit``, c is 1 where epsilon cannot change, and else e is 1.
    After the norm, the copies are e / sqrt(c) times the old ones, and the other coordinates are 0.

    A norm that leaves into this space (post-norm) could not write the mean and refuses
    (`growth.algebra.roles.Scale`).

    Args:
        elementwise: whether an elementwise function touches the space as well. It fixes write = 1,
            and no parameter could write the mean.
        layout, shares_epsilon_with: as for `RMSNorm`.

    Example:
        GPT-2's 768 coordinates become 1000; the last 232 carry the mean:

        >>> stream = Space("residual", "hidden_size")
        >>> grown = LayerNorm().grow(Growth(stream, 768, 1000))
        >>> int(grown.means.sum()), grown.energy
        (232, 0.768)
    """

    elementwise: bool = False
    layout: Axis | None = None
    shares_epsilon_with: Space | None = None

    def grow(self, g: Growth) -> Map:
        if self.elementwise or self.layout is not None:
            g.require_multiple("a layer norm takes the mean over all coordinates")
        if g.m % g.n == 0:
            if self.elementwise:
                return Map.copies(g.n, g.source(self.layout))
            return RMSNorm(self.layout, self.shares_epsilon_with).grow(g)
        r = g.m // g.n
        square = 1.0 / r if g.scaling == "orthogonal" else g.m / (r * g.n) if g.isometric else 1.0
        if self.shares_epsilon_with is not None:
            square = g.energy(self.shares_epsilon_with) * g.m / (r * g.n)
        e = square**0.5
        mean = np.arange(g.m) >= r * g.n
        return Map(g.n, np.arange(g.m) % g.n, np.full(g.m, e), np.where(mean, 0.0, 1.0 / (r * e)), mean)

    def follows(self) -> tuple[Space, ...]:
        return spaces_of(self.layout, self.shares_epsilon_with)

    def __str__(self) -> str:
        return "layer norm, elementwise" if self.elementwise else "layer norm"
