"""Coordinates that could never learn.

A coordinate that is born silent waits for one side alone: what writes it starts at 0 and what reads
it does not, so that its writers receive a gradient at the first step and its readers after that, or
the other way round. Where both start at 0, neither ever receives any. What reads a query is the key
it meets (`growth.algebra.attention_laws.Scores`), and what a model computes by itself
(`growth.algebra.attention_laws.Sinusoids`) is never silent. No law of this library leads to such a
coordinate; one of your own may."""

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
    """Space -> its new coordinates that no step of training would move, for the spaces that have
    any.

    Args:
        maps: how every space grows.
        laws: what each has for a law.
        roles: of every parameter of the model, each combination once.
    """
    dead = {}
    for space in sorted(_written(roles) & maps.keys(), key=str):
        silent = maps[space].write == 0
        met = _met(space, maps, laws)
        silent &= maps[space].read == 0 if met is None else maps[met].write == 0
        if silent.any():
            dead[space] = np.flatnonzero(silent)
    return dead


def notes(maps: Mapping[Space, Map], laws: Mapping[Space, Law], roles: Collection[tuple[Role, ...]]) -> list[str]:
    """What a plan says of them. Arguments as for `never_learn`."""
    return [
        f"{len(which)} of the {maps[space].m} coordinates of '{space}' can never learn, since what writes them and "
        "what reads them both "
        f"start at 0: the law '{laws[space]}' should leave one of the two another value"
        for space, which in never_learn(maps, laws, roles).items()
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


def _met(space: Space, maps: Mapping[Space, Map], laws: Mapping[Space, Law]) -> Space | None:
    """The queries that some keys meet, or the keys that some queries do; None for a space of
    neither."""
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
