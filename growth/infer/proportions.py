"""Small values for sizes that must keep their proportions: heads, and the features that they divide."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from growth.infer.fields import split
from growth.infer.meanings import Kind

_SHARED = re.compile(r"key_value|kv|num_key_heads|query_groups")
LARGEST_WIDTH, SMALLEST_HEAD = 640, 32


@dataclass(frozen=True)
class Field:
    """A config field that grows: its path, the user's value, and what it counts.

    Example:
        >>> Field("text_config.hidden_size", 4096, "hidden").name
        'hidden_size'
    """

    path: str
    value: int
    kind: Kind

    @property
    def section(self) -> str:
        """The path of its section."""
        return split(self.path)[0]

    @property
    def name(self) -> str:
        """Its name in its section."""
        return split(self.path)[1]


def proportional(members: Sequence[Field], beside: Mapping[str, int], even: bool = False) -> dict[str, int]:
    """Small values in the proportions of the user's: with at least two heads of each kind that has
    several, and three where keys and values have as many as queries. Where that would make a model
    too large, fewer queries share a key and value than in the user's.

    Example:
        >>> heads = [Field("num_attention_heads", 32, "heads"), Field("num_key_value_heads", 8, "heads")]
        >>> proportional([Field("hidden_size", 2048, "hidden"), *heads], {})
        {'hidden_size': 512, 'num_attention_heads': 8, 'num_key_value_heads': 2}
    """
    heads = {field.path: field for field in members if field.kind == "heads" and field.value > 1}
    shared = {path: one for path, field in heads.items() if (one := _queries_of(field, heads)) is not None}
    ones = {field.path: field.value for field in members if field.value <= 1}
    base = {field.path: field.value for field in members if field.value > 1 and field.path not in shared}
    if not base:
        return ones
    apart = max((value for name, value in beside.items() if mamba_groups(name)), default=1)
    widths = [field.path for field in members if field.path in base and field.kind in ("hidden", "width")]
    unit, least = math.gcd(*base.values()), (2 if shared else 3) if heads else 2
    attempts = (
        (True, least, LARGEST_WIDTH),
        (False, least, LARGEST_WIDTH),
        (False, 2, max(base.values())),
    )
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
            if all(
                small[path] >= min(fewest, field.value) and not (even and small[path] % 2)
                for path, field in heads.items()
            ) and all(small[path] % apart == 0 for path, field in heads.items() if _has_groups(field, beside)):
                return small | ones
    return {field.path: field.value for field in members}


def compact(members: Sequence[Field], beside: Mapping[str, int]) -> dict[str, int]:
    """Small values with few features to a head: each kind of heads in its own proportions, all
    features in theirs, as few as the heads divide evenly with `SMALLEST_HEAD` for each.

    Example:
        >>> compact([Field("hidden_size", 4096, "hidden"), Field("num_heads", 16, "heads")], {})
        {'num_heads': 4, 'hidden_size': 128}
    """
    heads = [field for field in members if field.kind == "heads"]
    small: dict[str, int] = {}
    for kind in dict.fromkeys(family(field.name) for field in heads):
        own = [field for field in heads if family(field.name) == kind]
        small |= proportional(own, beside, even=True)
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
    others = [one for one in heads.values() if one is not field and family(one.name) == family(field.name)]
    found = max(others, key=lambda one: one.value, default=None)
    return found if found is not None and found.value > field.value and found.value % field.value == 0 else None


def _has_groups(field: Field, beside: Mapping[str, int]) -> bool:
    """Whether heads are those of a state-space mixer, which fall into groups."""
    return of_mamba(field.name) or ("state_size" in beside and field.name == "num_heads")


def mamba_groups(name: str) -> bool:
    """Whether a field counts the groups of heads of a state-space mixer that share a state.

    Example:
        >>> mamba_groups("mamba_n_groups"), mamba_groups("n_group")
        (True, False)
    """
    return bool(re.search(r"^(mamba_)?n_?groups$", name))


def family(name: str) -> str:
    """Heads of one kind: ``linear_num_key_heads`` and ``linear_num_value_heads``.

    Example:
        >>> family("linear_num_key_heads"), family("num_attention_heads")
        ('linear', '')
    """
    if of_mamba(name):
        return "mamba"
    return next((part for part in ("linear", "swa", "encoder", "decoder") if name.startswith(part)), "")


def of_mamba(name: str) -> bool:
    """Whether a field counts heads of a state-space mixer, by its name.

    Example:
        >>> of_mamba("mamba_n_heads"), of_mamba("num_heads")
        (True, False)
    """
    return "mamba" in name
