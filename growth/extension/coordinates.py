"""The entries of an axis by what they stand for, so that axes of other sizes can be compared.

Entry 7 of the queries of a grouped attention is the number 7 in a file, and as coordinates it is
key/value head 1, query 0, feature 1. What an extension does is easy to say of coordinates, and
holds for every layout of a tensor: fused, interleaved, head by head."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from growth.algebra.axes import Axis, Concatenation, Fixed, Interleaved, Product, Space
from growth.algebra.maps import Integers
from growth.algebra.roles import Reads, Role, Scale, Writes
from growth.architectures.sizes import Sizes

Coordinates = dict[Hashable, Integers]
"""Space -> the coordinate of every entry of an axis, -1 for entries in which that space has no part.
Besides spaces there are numbers of parts and of what a fixed count counts."""

ABSENT = -1


def axis_of(role: Role) -> Axis | None:
    """What one dimension of a tensor ranges over; None for one that is declared to stay."""
    match role:
        case Writes() | Reads():
            return role.axis
        case Scale():
            return role.leaves
    return None


def coordinates(axis: Axis, sizes: Sizes, place: str = "") -> Coordinates:
    """The coordinates of all entries of an axis, in order.

    Args:
        axis: the axis.
        sizes: size name -> value.
        place: tells parts of one axis apart that are alike.

    Example:
        Two heads of three features:

        >>> heads, width = Space("heads", "num_attention_heads"), Space("width", "head_dim")
        >>> found = coordinates(heads * width, {"num_attention_heads": 2, "head_dim": 3})
        >>> found[heads].tolist(), found[width].tolist()
        ([0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2])
    """
    match axis:
        case Space():
            return {axis: np.arange(sizes[axis.size])}
        case Fixed():
            return {f"{place}count": np.arange(axis.count)}
        case Product():
            return _product(axis, sizes, place)
        case Concatenation():
            both = (coordinates(axis.before, sizes, f"{place}0"), coordinates(axis.after, sizes, f"{place}1"))
            return _joined(both, place, 1)
        case Interleaved():
            parts = tuple(_product(part, sizes, f"{place}{number}") for number, part in enumerate(axis.parts))
            return _joined(parts, place, _length(coordinates(axis.parts[0].outer, sizes, place)))
    raise TypeError(f"{type(axis).__name__} is no known axis. Please report this.")


def _product(axis: Product, sizes: Sizes, place: str) -> Coordinates:
    outer, inner = coordinates(axis.outer, sizes, f"{place}o"), coordinates(axis.inner, sizes, f"{place}i")
    wide, long = _length(inner), _length(outer)
    return {key: np.repeat(each, wide) for key, each in outer.items()} | {
        key: np.tile(each, long) for key, each in inner.items()
    }


def _joined(parts: tuple[Coordinates, ...], place: str, blocks: int) -> Coordinates:
    """Parts one after the other, in each of some blocks."""
    lengths = [_length(part) // blocks for part in parts]
    keys: dict[Any, None] = dict.fromkeys(key for part in parts for key in part)
    joined: Coordinates = {f"{place}part": np.tile(np.repeat(np.arange(len(parts)), lengths), blocks)}
    for key in keys:
        columns = [
            part[key].reshape(blocks, -1) if key in part else np.full((blocks, length), ABSENT)
            for part, length in zip(parts, lengths, strict=True)
        ]
        joined[key] = np.concatenate(columns, axis=1).ravel()
    return joined


def _length(part: Mapping[Hashable, Integers]) -> int:
    return len(next(iter(part.values())))


def positions(wanted: Coordinates, known: Coordinates) -> Integers:
    """Where an axis has each of some coordinates.

    Args:
        wanted: coordinates, under the keys of ``known``.
        known: those of the axis.

    Raises:
        KeyError: if it does not have one of them.

    Example:
        >>> heads = Space("heads", "num_attention_heads")
        >>> positions({heads: np.array([1, 1, 0])}, {heads: np.arange(2)}).tolist()
        [1, 1, 0]
    """
    keys = list(known)
    sizes = [int(max(known[key].max(), wanted[key].max())) + 2 for key in keys]
    old, new = (
        np.ravel_multi_index(tuple(part[key] + 1 for key in keys), tuple(sizes))  # ABSENT is -1
        for part in (known, wanted)
    )
    order = np.argsort(old)
    found: Integers = order[np.minimum(np.searchsorted(old, new, sorter=order), len(old) - 1)]
    if (old[found] != new).any():
        raise KeyError("an entry is asked for that the axis does not have")
    return found
