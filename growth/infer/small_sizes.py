"""Sizes of a miniature: few heads of the user's width, and towers that are the user's divided by one
number."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from growth.infer.readings import Reading
from growth.infer.size_fields import HEAD_DIMS, HEAD_PAIRS, HIDDEN


def counts_up(value: Any) -> bool:
    """Whether a field holds a number of something.

    Example:
        >>> counts_up(3), counts_up(None), counts_up(True)
        (True, False, False)
    """
    return type(value) is int and value > 0


def own_hidden(fields: Mapping[str, Any]) -> int | None:
    """The width of a section's stream; None if no field says it.

    Example:
        >>> own_hidden({"d_model": 512}), own_hidden({"num_channels": 3})
        (512, None)
    """
    return next((fields[name] for name in HIDDEN if counts_up(fields.get(name))), None)


def small_hidden(fields: Mapping[str, Any], reading: Reading, number: int) -> int:
    """The text's hidden size in the miniature. Where no field says how wide a head is, heads of the
    user's width make it up.

    Example:
        >>> small_hidden({"hidden_size": 4096, "num_attention_heads": 32, "head_dim": 128}, Reading(), 0)
        36
        >>> small_hidden({"hidden_size": 4096, "num_attention_heads": 32}, Reading(), 0)
        384
    """
    heads = small_heads(fields)
    named = next((name for name in HEAD_DIMS if counts_up(fields.get(name))), None)
    main = next((name for name in head_fields(fields)), None)
    if main is None or (named and reading.free_hidden):
        return (12 + 6 * number) * (heads[main] if main else 4)  # some configs want whole multiples of the heads
    width = fields[named] if named else (own_hidden(fields) or 0) // fields[main]
    return int(heads[main] * width)


def head_fields(fields: Mapping[str, Any]) -> list[str]:
    """The fields of a section that count heads.

    Example:
        >>> head_fields({"num_attention_heads": 32, "num_key_value_heads": 8})[0]
        'num_attention_heads'
    """
    return [many for many, _ in HEAD_PAIRS if counts_up(fields.get(many))]


def small_heads(fields: Mapping[str, Any]) -> dict[str, int]:
    """Counts of heads in the miniature of a text section: as many queries to a key and value as the
    user's, and two of those.

    Example:
        >>> small_heads({"num_attention_heads": 32, "num_key_value_heads": 8})
        {'num_attention_heads': 8, 'num_key_value_heads': 2}
    """
    found: dict[str, int] = {}
    for many, few in HEAD_PAIRS:
        if not counts_up(fields.get(many)):
            continue
        shared = fields.get(few) if few else None
        if few == "n_groups" and counts_up(shared):
            found.setdefault(many, 2 * fields[few])  # groups stay
        elif shared == 1 < fields[many]:
            found.setdefault(many, min(fields[many], 5))
            found.setdefault(few, 1)
        elif not counts_up(shared) or shared == fields[many] or fields[many] % fields[few]:
            found.setdefault(many, 3)
            if counts_up(shared):
                found.setdefault(few, 3)
        else:
            groups = found.get(few, _few_groups(fields, fields[many] // fields[few]))
            found.setdefault(many, groups * (fields[many] // fields[few]))
            found.setdefault(few, groups)
    return found


WIDEST = 2048
"""What heads of the user's width may make up with two groups; one group is taken beyond that."""


def _few_groups(fields: Mapping[str, Any], queries: int) -> int:
    """How many keys and values a miniature has that so many queries share each."""
    if any(counts_up(fields.get(name)) for name in HEAD_DIMS):
        return 2 if queries < 32 else 1
    heads = next((fields[name] for name in head_fields(fields)), 1)
    return 2 if 2 * queries * ((own_hidden(fields) or 0) // heads) <= WIDEST else 1


def divided(value: int, factor: int) -> int:
    """A width over the factor, at least 1. One that the factor does not divide is rounded to an
    even number.

    Example:
        >>> divided(1024, 8), divided(1020, 8)
        (128, 126)
    """
    return value // factor if value % factor == 0 else max(2, value // factor // 2 * 2)


def shrinking_factor(sections: Iterable[Mapping[str, Any]]) -> int:
    """The largest number that divides the heads and the widths of streams in all sections and leaves
    at least two heads where there were several.

    Example:
        >>> shrinking_factor([{"hidden_size": 1024, "num_attention_heads": 16}])
        8
    """
    counts: list[int] = []
    streams: list[int] = []
    for fields in sections:
        for pair in HEAD_PAIRS:
            counts += [fields[name] for name in pair if name != "n_groups" and counts_up(fields.get(name))]
        for pair in HEAD_PAIRS:
            for value in (fields.get(name) for name in pair):
                if isinstance(value, list):
                    counts += value
        streams += [fields[name] for name in HIDDEN if counts_up(fields.get(name))]
        streams += [fields["base_channels"] // 32] if counts_up(fields.get("base_channels")) else []  # in groups of 32
        for name in HIDDEN:
            if isinstance(fields.get(name), list):
                streams += fields[name]
    several = [count for count in counts if count > 1]
    common = math.gcd(*several) if several else 8
    fits = [
        factor
        for factor in range(1, common + 1)
        if common % factor == 0 and all(stream % factor == 0 for stream in streams)
    ]
    kept = [factor for factor in fits if all(count // factor >= 2 for count in several)]
    return max(kept or fits, default=1)
