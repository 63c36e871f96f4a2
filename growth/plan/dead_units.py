"""Dead units: new coordinates that could never learn.

A new coordinate that starts silent has a zero on one side only: the weights that write it start at
0 and those that read it do not, or the reverse. So at the first step the zero side receives a
gradient, and at the next the other side does. Where both sides start at 0, neither ever receives
one: the unit is dead. The queries are what reads the keys, and the reverse
(`growth.algebra.attention_laws.Scores`); what the model computes from nothing learned
(`growth.algebra.attention_laws.Sinusoids`) is never silent.

Example: a rotary slot whose key starts at 0 learns, because its query does not start at 0; with
both at 0 it would be dead. No law of this library leads to a dead unit; a law that you write may.
Noise wakes dead units: what reads them takes noise that no sum restricts, and what writes them
gets a gradient through that."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from growth.algebra.attention_laws import Scores
from growth.algebra.axes import Space
from growth.algebra.laws import Law
from growth.algebra.maps import Integers, Map
from growth.algebra.roles import Role, Scale, Writes


def never_learn(
    maps: Mapping[Space, Map], laws: Mapping[Space, Law], roles: Collection[tuple[Role, ...]]
) -> dict[Space, Integers]:
    """The dead units of every space that has any.

    Args:
        maps: how every space grows.
        laws: the law of each.
        roles: of every parameter of the model, each combination once.

    Returns:
        Space -> the numbers of its coordinates that no step of training would move.

    Example:
        Coordinate 2 is written and read with 0:

        >>> from growth.algebra.laws import Linear
        >>> values = Space("value", "head_dim")
        >>> grown = Map(2, np.array([0, 1, 0]), write=np.array([1.0, 1.0, 0.0]), read=np.array([1.0, 1.0, 0.0]))
        >>> {str(space): units.tolist() for space, units in
        ...     never_learn({values: grown}, {values: Linear()}, {(Writes(values),)}).items()}
        {'value': [2]}
    """
    dead = {}
    for space in sorted(_written(roles) & maps.keys(), key=str):
        other_side = _other_side(space, maps, laws)
        not_written = maps[space].write == 0
        not_read = maps[space].read == 0 if other_side is None else maps[other_side].write == 0
        if (units := np.flatnonzero(not_written & not_read)).size:
            dead[space] = units
    return dead


def notes(maps: Mapping[Space, Map], laws: Mapping[Space, Law], roles: Collection[tuple[Role, ...]]) -> list[str]:
    """What a plan says of dead units. Arguments as for `never_learn`."""
    return [
        f"{len(units)} of the {maps[space].m} coordinates of '{space}' are dead units, which can never learn: what "
        "writes them and what reads them both start at 0, so that no gradient reaches them; let the law "
        f"'{laws[space]}' start one of the two at another value"
        for space, units in never_learn(maps, laws, roles).items()
    ]


def _written(roles: Collection[tuple[Role, ...]]) -> set[Space]:
    """The spaces that some parameter writes."""
    axes = [
        role.axis if isinstance(role, Writes) else role.leaves
        for each in roles
        for role in each
        if isinstance(role, (Writes, Scale))
    ]
    return {space for axis in axes for space in axis.spaces()}


def _other_side(space: Space, maps: Mapping[Space, Map], laws: Mapping[Space, Law]) -> Space | None:
    """The queries that meet these keys, or the keys that meet these queries; None for a space that
    is neither."""
    law = laws[space]
    if not isinstance(law, Scores):
        return None
    scores = {other: met for other in maps if isinstance(met := laws[other], Scores) and other.size == space.size}
    facing = (
        other
        for other, met in scores.items()
        if (met.rotary, met.scale) == (law.rotary, law.scale) and met.side != law.side
    )
    return next(facing, None)
