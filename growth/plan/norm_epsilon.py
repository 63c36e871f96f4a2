"""The norms' epsilon: ``eps' = eps * energy`` of the axis that enters (`growth.rules.norm`).

The config has one field for many norms, or none where the code fixes a number. Where two want
different values (BERT's residual stream under orthogonal scaling, and its head's transform, which
an elementwise function holds at scale 1) the growth passes only if epsilon is as small as BERT's
1e-12, to which any variance a float32 model can have is large."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from growth.algebra.axes import Space
from growth.algebra.maps import Map
from growth.algebra.roles import Gain
from growth.architectures.architecture import Architecture
from growth.architectures.sizes import value_at
from growth.errors import IllegalGrowthError, UnsupportedModelError

NEGLIGIBLE_EPSILON = 1e-12
"""A norm's epsilon that may be off by a factor."""


def grown_epsilons(
    architecture: Architecture, parsed: Any, maps: Mapping[Space, Map], gains: Iterable[Gain]
) -> dict[str, float]:
    """Config field -> new value, for the fields that hold an epsilon and change.

    Raises:
        IllegalGrowthError: where one epsilon would have to serve two values.
        UnsupportedModelError: if the config has no such field.
    """
    wanted: dict[str | float, dict[str, float]] = {}
    for axis, home in sorted(architecture.norms(gains, maps), key=lambda norm: (str(norm[0]), str(norm[1]))):
        wanted.setdefault(home, {})[str(axis)] = _value(parsed, home) * (axis.map(maps).energy or 1.0)
    changes = {}
    for home, by_axis in wanted.items():
        value = _value(parsed, home)
        target = value if isinstance(home, float) else next(iter(by_axis.values()))
        for name, epsilon in by_axis.items():
            if abs(epsilon - target) * value > NEGLIGIBLE_EPSILON * epsilon * (
                1 + 1e-9
            ):  # relative to the variance, which grows by energy
                other = "the code fixes" if isinstance(home, float) else f"the one on '{next(iter(by_axis))}' needs"
                raise IllegalGrowthError(
                    f"cannot set the norms' epsilon ({home}): the norm on '{name}' needs {epsilon:.3g}, but {other} "
                    f"{target:.3g}. "
                    "Use --scaling unit, which keeps it."
                )
        if isinstance(home, str) and not math.isclose(target, value, rel_tol=1e-12):
            changes[home] = target
    return changes


def _value(parsed: Any, home: str | float) -> float:
    """An epsilon, from its config field or as it is."""
    if not isinstance(home, str):
        return home
    value = value_at(parsed, home)
    if not isinstance(value, (int, float)):
        raise UnsupportedModelError(
            f"the config has no number in '{home}', where the declaration looks for the norms' epsilon. Name the "
            "right field or a number."
        )
    return float(value)
