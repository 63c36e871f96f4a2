"""Which sizes of a config move together, and their small values.

A class ties some of its sizes: ``hidden_size`` is the number of heads times their size, the inside
of a mixer is twice ``hidden_size``. How many are tied is not written anywhere, so there are several
`Level`s, from the freest to the one under which all sizes of a section keep the proportions that
they have in the user's config. The freest that the class accepts tells sizes apart best."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from growth.infer.fields import split
from growth.infer.meanings import STANDARD, Kind

_HEAD_DIM = (*STANDARD["head_dim"], "qk_nope_head_dim", "qk_head_dim")
_INNER = re.compile(r"d_ssm$|lru_width|attention_hidden_size|inner|mamba\w*intermediate|^linear_\w*(size|dim)$")
_SAME = re.compile(r"out_?(put)?_(hidden_)?(size|dim)$|text_(hidden_size|embed_dim)|backbone_hidden|encoder_hidden|cross_attention_hidden|decoder_hidden|projector_(in|out)put_dim|hidden_size$|d_model$|embed_dim$")
HIDDEN, FREE, RANKS, ODD = (40, 52, 68, 76, 92, 84), (44, 60, 36, 28), (14, 22, 26, 18), (29, 23, 31, 37, 43, 47)
_SHARED = re.compile(r"key_value|kv|num_key_heads|query_groups")
LARGEST_WIDTH, SMALLEST_HEAD, MOST_HEADS = 1024, 32, 64


@dataclass(frozen=True)
class Field:
    """A config field that grows: its path, the user's value, and what it counts."""

    path: str
    value: int
    kind: Kind

    @property
    def section(self) -> str:
        return split(self.path)[0]

    @property
    def name(self) -> str:
        return split(self.path)[1]


@dataclass(frozen=True)
class Level:
    """How much is tied.

    Args:
        linked: whether features are tied to heads.
        grain: what all sizes are multiples of.
        whole: whether all sizes of a section keep their proportions.
        even: whether there are even numbers of heads.
        repeat: how many layers there are of each kind.
        compact: whether heads are smaller than in the user's model, where no field says how large
            they are.
    """

    linked: bool
    grain: int = 1
    whole: bool = False
    even: bool = False
    repeat: int = 1
    compact: bool = False


LEVELS = (
    Level(False),
    Level(True),
    Level(False, 8, even=True),
    Level(True, 8, even=True),
    Level(True, compact=True),
    Level(True, repeat=2, compact=True),
    Level(True, 8, whole=True),
    Level(True, 8, whole=True, compact=True),
)
"""In the order in which they are tried."""


@dataclass(frozen=True)
class Group:
    """Fields that keep their proportions to each other.

    Args:
        small: path -> value in the miniature.
        kind: what most of them count.
    """

    small: Mapping[str, int]
    kind: Kind


def groups(
    fields: Sequence[Field], kept: Mapping[str, int], level: Level, chosen: Mapping[str, int] | None = None
) -> list[Group]:
    """The groups of fields, with their small values.

    Args:
        fields: that grow.
        kept: path -> value of the whole numbers that do not.
        level: how much is tied.
        chosen: path -> small value of fields that are not tied to others, where it is known.
    """
    found: list[Group] = []
    odd, free, ranks, hidden = count(), count(), count(), count()
    streams: dict[int, int] = {}  # a user's width -> that in the miniature, where sections share it
    for section in dict.fromkeys(field.section for field in fields):
        here = [field for field in fields if field.section == section]
        beside = {split(path)[1]: value for path, value in kept.items() if split(path)[0] == section}
        linked = level.linked or not any(name in beside for name in _HEAD_DIM)
        tied, rest = _tied(here, beside, linked, level)
        smalls: dict[str, int] = {}
        for members in tied:
            small = _compact(members, beside) if level.compact else _proportional(members, beside, level)
            smalls |= small
            kind: Kind = "hidden" if any(field.kind == "hidden" for field in members) else "heads"
            found.append(Group(small, kind))
            streams |= {field.value: small[field.path] for field in members if field.kind == "hidden"}
        for field in rest:
            if chosen is not None and field.path in chosen:
                value = chosen[field.path]
            elif field.kind in ("hidden", "width") and field.value in streams and _SAME.search(field.name):
                value = streams[field.value]
            elif field.kind == "hidden":
                heads = math.lcm(4, level.grain, *(3 * one for group in tied for one in _heads(group, smalls)))
                value = _rounded(HIDDEN[next(hidden) % len(HIDDEN)], heads if heads <= 3 * MOST_HEADS else level.grain)
                streams[field.value] = value
            elif field.kind == "rank":
                value = _rounded(RANKS[next(ranks) % len(RANKS)], level.grain)
            elif field.kind == "width":
                value = _rounded(FREE[next(free) % len(FREE)], level.grain)
            else:
                value = _rounded(ODD[next(odd) % len(ODD)], level.grain)
            found.append(Group({field.path: value}, field.kind))
    return _joined(found, fields)


def _joined(found: Sequence[Group], fields: Sequence[Field]) -> list[Group]:
    """Groups of features that have the same size in the user's config and in the miniature are one."""
    value = {field.path: field.value for field in fields}
    streams: dict[tuple[int, int], int] = {}
    result: list[Group] = []
    for group in found:
        keys = {(value[path], small) for path, small in group.small.items()} if group.kind in ("hidden", "width") else set()
        place = next((streams[key] for key in keys if key in streams), None)
        if place is None:
            streams |= dict.fromkeys(keys, len(result))
            result.append(group)
        else:
            result[place] = Group({**result[place].small, **group.small}, "hidden")
    return result


def _heads(members: Sequence[Field], small: Mapping[str, int]) -> list[int]:
    """The numbers of heads in a group, of attention."""
    return [small[field.path] for field in members if field.kind == "heads" and "mamba" not in field.name]


def _rounded(value: int, grain: int) -> int:
    return -(-value // grain) * grain


def _tied(
    here: Sequence[Field], beside: Mapping[str, int], linked: bool, level: Level
) -> tuple[list[list[Field]], list[Field]]:
    """The groups of fields of a section that are tied to heads, and the other fields."""
    heads = [field for field in here if field.kind == "heads"]
    if level.whole:
        return ([list(here)] if here else []), []
    if linked and heads:
        members = [
            field
            for field in here
            if field.kind == "heads"
            or (field.kind in ("hidden", "width") and any(field.value % one.value == 0 for one in heads))
        ]
        streams = {field.value for field in members if field.kind == "hidden"}
        members = [
            field
            for field in members
            if field.kind in ("heads", "hidden") or field.value in streams or _INNER.search(field.name)
        ]
        return [members], [field for field in here if field not in members]
    kinds: dict[str, list[Field]] = {}
    for field in heads:
        kinds.setdefault(_family(field.name), []).append(field)
    for field in here:
        if field.kind in ("width", "feed-forward") and _INNER.search(field.name):
            owner = next(
                (one for members in kinds.values() for one in members if field.value % one.value == 0 and "mamba" in one.name),
                None,
            )
            if owner is not None:
                kinds[_family(owner.name)].append(field)
    tied = list(kinds.values())
    grouped = {field.path for members in tied for field in members}
    return tied, [field for field in here if field.path not in grouped]


def _family(name: str) -> str:
    """Heads of one kind: ``linear_num_key_heads`` and ``linear_num_value_heads``."""
    if "mamba" in name:
        return "mamba"
    return next((part for part in ("linear", "swa", "encoder", "decoder") if name.startswith(part)), "")


def _proportional(members: Sequence[Field], beside: Mapping[str, int], level: Level) -> dict[str, int]:
    """Small values in the proportions of the user's: with at least two heads of each kind that has
    several, and three where keys and values have as many as queries. Where that would make a model
    too large, fewer queries share a key and value than in the user's."""
    heads = {field.path: field for field in members if field.kind == "heads" and field.value > 1}
    shared = {path: one for path, field in heads.items() if (one := _queries_of(field, heads)) is not None}
    ones = {field.path: field.value for field in members if field.value <= 1}
    base = {field.path: field.value for field in members if field.value > 1 and field.path not in shared}
    if not base:
        return ones
    apart = max((value for name, value in beside.items() if mamba_groups(name)), default=1)
    widths = [field.path for field in members if field.path in base and field.kind in ("hidden", "width")]
    unit, least = math.gcd(*base.values()), (2 if shared else 3) if heads else 2
    attempts = ((True, least, LARGEST_WIDTH), (False, least, LARGEST_WIDTH), (False, 2, unit * max(base.values())))
    for whole, fewest, widest in attempts:
        for times in range(1, unit + 1):
            small = {path: value // unit * times for path, value in base.items()}
            if max([0, *(small[path] for path in widths)]) > widest:
                break
            for path, queries in shared.items():
                ratio = queries.value // heads[path].value
                if not whole:
                    ratio = next(factor for factor in range(2, ratio + 1) if ratio % factor == 0)
                small[path] = small[queries.path] // ratio if small[queries.path] % ratio == 0 else 0
            if all(small[path] >= min(fewest, field.value) and not (level.even and small[path] % 2) for path, field in heads.items()) and all(
                small[path] % apart == 0 for path, field in heads.items() if _has_groups(field, beside)
            ):
                return small | ones
    return {field.path: field.value for field in members}


def _compact(members: Sequence[Field], beside: Mapping[str, int]) -> dict[str, int]:
    """Small values with few features to a head: each kind of heads in its own proportions, all
    features in theirs, as few as the heads divide evenly with `SMALLEST_HEAD` for each."""
    heads = [field for field in members if field.kind == "heads"]
    small: dict[str, int] = {}
    for family in dict.fromkeys(_family(field.name) for field in heads):
        own = [field for field in heads if _family(field.name) == family]
        small |= _proportional(own, beside, Level(True, even=True))
    whole = math.lcm(4, *small.values())
    features = {field.path: field.value for field in members if field.kind != "heads"}
    unit = math.gcd(*features.values()) if features else 1
    most = max(small.values(), default=1)
    for head in (SMALLEST_HEAD, 8):
        for times in range(1, unit + 1):
            sizes = {path: value // unit * times for path, value in features.items()}
            if all(size % whole == 0 and size >= head * most for size in sizes.values()):
                return small | sizes
    return {field.path: field.value for field in members}


def _queries_of(field: Field, heads: Mapping[str, Field]) -> Field | None:
    """The heads of queries that share the keys and values, or the keys, that a field counts."""
    if not _SHARED.search(field.name):
        return None
    others = [one for one in heads.values() if one is not field and _family(one.name) == _family(field.name)]
    found = max(others, key=lambda one: one.value, default=None)
    return found if found is not None and found.value > field.value and found.value % field.value == 0 else None


def _has_groups(field: Field, beside: Mapping[str, int]) -> bool:
    """Whether heads are those of a state-space mixer, which fall into groups."""
    return "mamba" in field.name or ("state_size" in beside and field.name == "num_heads")


def mamba_groups(name: str) -> bool:
    """Whether a field counts the groups of heads of a state-space mixer that share a state."""
    return bool(re.search(r"^(mamba_)?n_?groups$", name))
