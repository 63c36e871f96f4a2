"""The norms' epsilon, which has to grow as the mean square that it is added to.

A norm divides by ``sqrt(mean(x**2) + eps)``. If growth multiplies the mean square of what enters
by its energy, then ``eps' = eps * energy`` keeps the norm as it was (`growth.rules.norm`).

Example: a GPT-2 grown from width 24 to 30 carries its mean in 6 of 30 coordinates, the variance is
24/30 of what it was, and ``layer_norm_epsilon`` becomes 1e-5 * 24/30.

A config has one field for many norms, or none where the code fixes a number. Two norms may need
different values: under orthogonal scaling BERT's residual stream has another energy than the
transform of its head, which an elementwise function fixes at 1. Such a growth passes only if
epsilon is as small as BERT's 1e-12, and the plan says what that takes for granted: that what enters
the norm has a variance beside which 1e-12 is nothing. That depends on the data too, so no weight tells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from growth.algebra.axes import Space
from growth.algebra.maps import Map
from growth.algebra.roles import Gain
from growth.architectures.architecture import Architecture
from growth.architectures.refusals import NEGLIGIBLE_EPSILON
from growth.architectures.sizes import value_at
from growth.errors import IllegalGrowthError, UnsupportedModelError


def grown_epsilons(
    architecture: Architecture, parsed: Any, maps: Mapping[Space, Map], gains: Iterable[Gain], scaling: str
) -> tuple[dict[str, float], list[str]]:
    """The epsilons that change, and what a caller should know of those that are not what a norm
    needs.

    Args:
        architecture: the declaration for the config.
        parsed: the parsed config.
        maps: how every space grows.
        gains: the gains of the model's norms.
        scaling: the caller's; a refusal names the way that is left.

    Returns:
        Config field -> new value; notes, a sentence each.

    Example:
        >>> from transformers import GPT2Config
        >>> from growth.plan.build import plan_config
        >>> from growth.plan.options import Options
        >>> config = GPT2Config(n_embd=24, n_head=4, n_layer=1, architectures=["GPT2Model"])
        >>> round(plan_config(config.to_dict(), Options(width=1.25)).new_config["layer_norm_epsilon"] / 1e-5, 6)
        0.8

    Raises:
        IllegalGrowthError: if one epsilon would have to have two values.
        UnsupportedModelError: if the config has no such field.
    """
    needed: dict[str | float, dict[str, float]] = {}  # home -> axis that enters -> epsilon
    for axis, home in sorted(architecture.norms(gains, maps), key=lambda norm: (str(norm[0]), str(norm[1]))):
        needed.setdefault(home, {})[str(axis)] = _value(parsed, home) * (axis.map(maps).energy or 1.0)
    changes, notes = {}, []
    for home, by_axis in needed.items():
        old = _value(parsed, home)
        new = old if isinstance(home, float) else next(iter(by_axis.values()))
        for axis_name, epsilon in by_axis.items():
            if not _serves(new, epsilon, old):
                remedy = "whole multiples of the old sizes, which keep it"
                if scaling != "unit":
                    remedy = "--scaling unit, which keeps it"
                other = "the code fixes" if isinstance(home, float) else f"the one on '{next(iter(by_axis))}' needs"
                raise IllegalGrowthError(
                    f"cannot set the norms' epsilon ({home}): the norm on '{axis_name}' needs {epsilon:.3g}, but "
                    f"{other} {new:.3g}. Use {remedy}."
                )
            if not math.isclose(new, epsilon, rel_tol=1e-9):
                notes.append(_about_the_variance(axis_name, home, old, abs(new - epsilon) * old / epsilon))
        if isinstance(home, str) and not math.isclose(new, old, rel_tol=1e-12):
            changes[home] = new
    return changes, notes


def _about_the_variance(axis: str, home: str | float, old: float, difference: float) -> str:
    """What is taken for granted where a norm does not get the epsilon that it needs.

    Args:
        axis: what enters the norm.
        home: where its epsilon is.
        old: that epsilon before growth.
        difference: by how much it is off, as an epsilon of the old model. A norm of variance v
            then moves by ``difference / 2 v``.
    """
    field = "the epsilon in the code" if isinstance(home, float) else home
    return (
        f"--scaling orthogonal needs two values of {field} ({old:g}), and there is one: the outputs of the norm on "
        f"'{axis}' move by {difference / 2:.2g} over the variance of what enters it (relative), which is nothing "
        "unless that variance is below 1e-6; grow verify measures it, --scaling unit takes nothing for granted"
    )


def _serves(new: float, needed: float, old: float) -> bool:
    """Whether an epsilon is close enough to the one that is needed.

    Variances grow by needed / old, so ``|new - needed| / (needed / old)`` is the difference as an
    epsilon of the old model."""
    return abs(new - needed) * old <= NEGLIGIBLE_EPSILON * needed * (1 + 1e-9)


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
    if not 0 <= value < math.inf:
        raise UnsupportedModelError(
            f"the norms' epsilon ({home}) is {value}, but it must be a number of at least 0. Check config.json."
        )
    return float(value)
