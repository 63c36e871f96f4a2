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
from growth.infer.proportions import Field, compact, family, of_mamba, proportional

_HEAD_DIM = (*STANDARD["head_dim"], "qk_nope_head_dim", "qk_head_dim")
_INNER = re.compile(r"d_ssm$|lru_width|attention_hidden_size|inner|mamba\w*intermediate|^linear_\w*(size|dim)$")
_SAME = re.compile(
    r"out_?(put)?_(hidden_)?(size|dim)$|text_(hidden_size|embed_dim)|backbone_hidden|encoder_hidden|cross_attention_hidden|decoder_hidden|projector_(in|out)put_dim|hidden_size(_global|_local)?$|d_model$|embed_dim$"
)
HIDDEN, FREE, RANKS, ODD = (40, 52, 68, 76, 92, 84), (44, 60, 36, 28), (14, 22, 26, 18), (29, 23, 31, 37, 43, 47)
MOST_HEADS = 64


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
        same: whether features of one size are one, whatever their fields are called.
    """

    linked: bool
    grain: int = 1
    whole: bool = False
    even: bool = False
    repeat: int = 1
    compact: bool = False
    same: bool = False


LEVELS = (
    Level(False),
    Level(True),
    Level(False, 8, even=True),
    Level(True, 8, even=True),
    Level(True, 8, even=True, same=True),
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

    Example:
        >>> fields = [Field("hidden_size", 4096, "hidden"), Field("num_attention_heads", 32, "heads")]
        >>> [dict(group.small) for group in groups(fields, {"head_dim": 128}, Level(linked=False))]
        [{'num_attention_heads': 3}, {'hidden_size': 72}]
        >>> [dict(group.small) for group in groups(fields, {}, Level(linked=True))]
        [{'hidden_size': 384, 'num_attention_heads': 3}]
    """
    found: list[Group] = []
    streams: dict[int, int] = {}  # a user's width -> that in the miniature, where sections share it
    rest: list[tuple[Field, int]] = []
    homes = _homes(fields)
    for section in dict.fromkeys(homes.values()):
        here = [field for field in fields if homes[field.path] == section]
        beside = {split(path)[1]: value for path, value in kept.items() if split(path)[0] == section}
        tied, others = _tied(here, level.linked or not any(name in beside for name in _HEAD_DIM), level)
        grain = level.grain
        for members in tied:
            small = compact(members, beside) if level.compact else proportional(members, beside, level.even)
            kind: Kind = "hidden" if any(field.kind == "hidden" for field in members) else "heads"
            found.append(Group(small, kind))
            streams |= {field.value: small[field.path] for field in members if field.kind == "hidden"}
            divided = [
                3 * small[field.path] for field in members if field.kind == "heads" and not of_mamba(field.name)
            ]
            grain = math.lcm(grain, *divided)
        rest += [(field, grain if grain <= 3 * MOST_HEADS else level.grain) for field in others]
    odd, free, ranks, hidden = count(), count(), count(), count()
    for field, heads in sorted(rest, key=lambda entry: (entry[0].kind != "hidden", -entry[1])):
        if chosen is not None and field.path in chosen:
            value = chosen[field.path]
        elif field.kind in ("hidden", "width") and field.value in streams and (level.same or _SAME.search(field.name)):
            value = streams[field.value]
        elif field.kind == "hidden":
            value = _rounded(HIDDEN[next(hidden) % len(HIDDEN)], math.lcm(4, heads))
            streams[field.value] = value
        elif field.kind == "rank":
            value = _rounded(RANKS[next(ranks) % len(RANKS)], level.grain)
        elif field.kind == "width":
            value = _rounded(FREE[next(free) % len(FREE)], math.lcm(level.grain, heads) if level.same else level.grain)
            if level.same:
                streams[field.value] = value
        else:
            value = _rounded(ODD[next(odd) % len(ODD)], level.grain)
        found.append(Group({field.path: value}, field.kind))
    return _joined(found, fields)


def _homes(fields: Sequence[Field]) -> dict[str, str]:
    """Path -> the section whose proportions a field keeps: its own, or the one around it for the key heads of a
    section that has no heads of queries (``attn_config.kv_n_heads`` beside ``n_heads``)."""
    homes = {field.path: field.section for field in fields}
    for section in {*homes.values()} - {""}:
        heads = [field for field in fields if field.section == section and field.kind == "heads"]
        if all(field.name in STANDARD["num_key_value_heads"] for field in heads):
            homes |= {field.path: split(section)[0] for field in heads}
    return homes


def _joined(found: Sequence[Group], fields: Sequence[Field]) -> list[Group]:
    """Groups of features that have the same size in the user's config and in the miniature are one."""
    value = {field.path: field.value for field in fields}
    streams: dict[tuple[int, int], int] = {}
    result: list[Group] = []
    for group in found:
        keys = (
            {(value[path], small) for path, small in group.small.items()}
            if group.kind in ("hidden", "width")
            else set()
        )
        place = next((streams[key] for key in keys if key in streams), None)
        if place is None:
            streams |= dict.fromkeys(keys, len(result))
            result.append(group)
        else:
            result[place] = Group({**result[place].small, **group.small}, "hidden")
    return result


def _rounded(value: int, grain: int) -> int:
    return -(-value // grain) * grain


def _tied(here: Sequence[Field], linked: bool, level: Level) -> tuple[list[list[Field]], list[Field]]:
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
        kinds.setdefault(family(field.name), []).append(field)
    for field in here:
        if field.kind in ("width", "feed-forward") and _INNER.search(field.name):
            owner = next(
                (
                    one
                    for members in kinds.values()
                    for one in members
                    if field.value % one.value == 0 and "mamba" in one.name
                ),
                None,
            )
            if owner is not None:
                kinds[family(owner.name)].append(field)
    tied = list(kinds.values())
    grouped = {field.path for members in tied for field in members}
    return tied, [field for field in here if field.path not in grouped]
