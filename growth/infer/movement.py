"""Which groups of sizes move dimensions of parameters as they should.

A field may be one that the class does not read. A class may round a size up, so that a small one
does not move where the user's would. And heads may be a mere split of features that another field
counts: then they can not grow alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import nn
from transformers import PreTrainedModel

from growth.architectures.sizes import size_at
from growth.errors import FOREIGN_ERRORS, GrowthError, UnsupportedModelError
from growth.hf.config_json import edited
from growth.hf.configs import Config
from growth.infer.groups import Group
from growth.infer.probe import Shapes, shapes
from growth.infer.proportions import Field

Movement = Literal["exact", "in part", "none", "unknown"]
LARGEST_COARSE = 2048
RATIO = 3


def _movement(small: Config, before: Shapes, kind: type[PreTrainedModel], ratios: Mapping[str, int]) -> Movement:
    """How the dimensions of matrices move when some fields of a miniature are multiplied alone.

    Args:
        small: the miniature.
        before: its shapes.
        kind: its class.
        ratios: path of a field -> factor.

    Returns:
        ``exact``: some dimension is multiplied just so; ``in part``: some move, otherwise;
        ``none``; ``unknown``: the class does not take these sizes alone.
    """
    changes = {path: ratio * size_at(small.parsed, path) for path, ratio in ratios.items()}
    try:
        after = shapes(edited(small, changes, written=tuple(changes)), kind)
    except (GrowthError, *FOREIGN_ERRORS):
        return "unknown"
    if before.keys() != after.keys():
        return "unknown"
    moved = {
        (old, new)
        for name, (module, shape) in before.items()
        if len(shape) > 1 and not issubclass(module, nn.Embedding)
        for old, new in zip(shape, after[name][1], strict=False)
        if old != new
    }
    if not moved:
        flat = any(shape != after[name][1] for name, (_, shape) in before.items())
        return "in part" if flat else "none"
    ratio = next(iter(ratios.values()))
    return "exact" if any(new == ratio * old for old, new in moved) else "in part"


def adjusted(
    small: Config, kind: type[PreTrainedModel], fields: Sequence[Field], found: Sequence[Group]
) -> dict[str, int]:
    """What to change in a miniature so that every size moves as it should.

    Args:
        small: the miniature.
        kind: its class.
        fields: that grow.
        found: their groups.

    Returns:
        Path -> a larger small value, for fields that the class rounds up. A field that moves nothing
        at any size is one that the class does not read: it grows in the config alone.

    Raises:
        UnsupportedModelError: if heads are a mere split of features, and must grow with them.
    """
    before = shapes(small, kind)
    by_path = {field.path: field for field in fields}
    chosen: dict[str, int] = {}
    for group in found:
        members = [by_path[path] for path in group.small]
        if all(field.kind == "heads" for field in members):
            if _movement(small, before, kind, dict.fromkeys(group.small, RATIO)) in ("none", "in part"):
                raise UnsupportedModelError(f"{', '.join(group.small)} divide features that another field counts")
        elif len(members) == 1 and members[0].kind != "hidden":
            path = members[0].path
            moves = _movement(small, before, kind, {path: RATIO})
            if moves in ("exact", "unknown"):
                continue
            value = next((value for value in _coarser(members[0]) if _exact_at(small, kind, path, value)), None)
            if value is not None:
                chosen[path] = value
    return chosen


def _exact_at(small: Config, kind: type[PreTrainedModel], path: str, value: int) -> bool:
    """Whether a size moves exactly from another small value on."""
    try:
        other = edited(small, {path: value}, written=(path,))
        return _movement(other, shapes(other, kind), kind, {path: RATIO}) == "exact"
    except (GrowthError, *FOREIGN_ERRORS):
        return False


def _coarser(field: Field) -> list[int]:
    """Small values that are the user's divided by powers of two: a class that rounds sizes up leaves
    the larger of them as they are."""
    found, value = [], field.value
    while value % 2 == 0 and value > 64:
        value //= 2
        found.append(value)
    return [value for value in reversed(found) if value <= LARGEST_COARSE]
