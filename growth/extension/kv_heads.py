"""More key/value heads for the same queries: from grouped or multi-query attention towards a key
and value head for every query head.

With g queries to each of K key/value heads, query head i reads key/value head i // g. Copies

    key/value head j of m K  =  key/value head j // m

leave every query head, at g/m to each, the keys and values it had. No weight is rounded, and the
query heads stay in their order. Which entries of a tensor that concerns follows from its declared axis alone
(`growth.extension.coordinates`): an entry of a query has coordinates of a key/value head *and* of a
query in its group, and keeps the number of its query head; an entry of a key or value has the first
alone.

*Training.* The gradients of the m copies add up to that of the head they copy, each over its own
queries. So the copies train apart from the first step on and need no noise. The small model does
not determine how the gradient is shared out; an optimizer's state is given in equal shares.

References:
    Ainslie et al. 2023, "GQA", arXiv 2305.13245, for the way back (key/value heads are averaged)."""

from __future__ import annotations

from fractions import Fraction

from transformers import PreTrainedModel

from growth.algebra.axes import Axis, Space
from growth.algebra.maps import Integers
from growth.architectures.architecture import Architecture
from growth.architectures.sizes import Sizes
from growth.errors import GrowthError, IllegalGrowthError
from growth.extension.coordinates import ABSENT, Coordinates, axis_of, coordinates, positions
from growth.extension.extension import Extension, Shapes
from growth.extension.part import Part
from growth.hf.config_json import edited
from growth.hf.configs import Config
from growth.hf.expected_tensors import expected_tensors

KV_HEADS, QUERIES, HEADS = "num_key_value_heads", "queries_per_kv", "num_attention_heads"
"""Standard names of sizes."""


def parted(old: Sizes, prefix: str, kv_heads: int, heads: Fraction) -> int:
    """How many copies of each key/value head a growth to other numbers of heads begins with.

    The copies are as few as leave no more queries to each than there are to be; where each is to
    have as many as now, or more, that is one. What is then left to grow is widening. Where the
    queries cannot be parted like that although there are to be more heads, it is one as well, and
    the search for sizes says what works near it.

    Args:
        old: the sizes of the model.
        prefix: of the names of the sizes.
        kv_heads: the number of key/value heads to reach.
        heads: the number of heads that goes with it. It may be no whole number, where it follows
            from a width.

    Raises:
        IllegalGrowthError: if the queries of the same heads cannot be parted like that.

    Example:
        Eight heads in two groups of four. Four groups of the same heads take two copies; with
        twice the heads, none; eight groups of 24 heads, with three queries each, take two copies
        of each, and widening makes 12 heads of 4 groups of 2 of them:

        >>> sizes = {"num_attention_heads": 8, "num_key_value_heads": 2, "queries_per_kv": 4}
        >>> [parted(sizes, "", kv, Fraction(heads)) for kv, heads in ((4, 8), (4, 16), (8, 24))]
        [2, 1, 2]
    """
    before = old[prefix + KV_HEADS]
    queries = old.get(prefix + QUERIES, old[prefix + HEADS] // before)
    each = heads / kv_heads
    if each >= queries:
        return 1
    ways = [copies for copies in range(1, queries + 1) if queries % copies == 0]
    for copies in ways:
        if Fraction(queries, copies) <= each and before * copies <= kv_heads:
            return copies
    if heads > old[prefix + HEADS]:
        return 1
    possible = " or ".join(str(before * copies) for copies in ways[1:])
    alike = f"a width of {Fraction(kv_heads, before)}"
    raise IllegalGrowthError(
        f"cannot have {prefix + KV_HEADS} {kv_heads} beside {float(heads):g} heads: each of the {before} serves "
        + (
            f"{queries} heads now, which part into equal groups only. Name {possible}, or {alike} too."
            if possible
            else f"one head already. Name {alike} too."
        )
    )


def with_more_key_value_heads(
    config: Config,
    shapes: Shapes,
    architecture: Architecture,
    model_class: type[PreTrainedModel],
    prefix: str,
    copies: int,
) -> Extension:
    """The extension by copies of every key/value head, at the same heads.

    Args:
        config, shapes: of the model.
        architecture: the declaration at that config.
        model_class: its class.
        prefix: of the names of the sizes: of a nested config, or empty.
        copies: how many there are to be of each; a divisor of the queries to each.

    Raises:
        IllegalGrowthError: if the config cannot hold that many.
    """
    old = architecture.read_sizes(config.parsed)
    name, field = prefix + KV_HEADS, architecture.sizes[prefix + KV_HEADS].field
    wanted = {**old, name: old[name] * copies, prefix + QUERIES: old[prefix + QUERIES] // copies}
    try:
        new = edited(config, {field: wanted[name]} if field else {})
        found: Sizes = architecture.read_sizes(new.parsed)
    except GrowthError as error:
        raise _not_held(architecture, name, wanted[name], str(error)) from error
    if found != wanted:
        raise _not_held(architecture, name, wanted[name], f"it is read back as {found[name]}.")
    before, after = ({*expected_tensors(one, model_class)[0]} for one in (config, new))
    if before != after:
        reason = f"each has tensors of its own ('{min(before ^ after)}'), which a new one would not have."
        raise _not_held(architecture, name, wanted[name], reason)
    taken: dict[Axis, Integers | None] = {}

    def take(axis: Axis | None) -> Integers | None:
        if axis is None or not any(space.size == name for space in axis.spaces()):
            return None
        if axis not in taken:
            taken[axis] = _taken(axis, old, wanted, prefix)
        return taken[axis]

    parts: dict[str, Part] = {}
    for tensor in shapes:
        roles = architecture.roles(architecture.canonical(tensor), model_class.__name__)
        entries = tuple(take(axis_of(role)) for role in roles)
        changed = any(one is not None for one in entries)
        parts[tensor] = Part(tensor, entries if changed else (), uneven=changed)
    queries = wanted[prefix + QUERIES]
    return Extension(
        config,
        new,
        shapes,
        parts,
        sizes={name: (old[name], wanted[name])},
        why={
            name: f"{copies} copies of each",
            prefix + QUERIES: "the same heads, more key/value heads",
        },
        notes=(
            f"{copies} key/value heads copy each of the {old[name]}, and serve {queries} of its "
            f"{old[prefix + QUERIES]} queries each: the KV cache becomes {copies} times as large, and the "
            "copies train apart from the first step on",
        ),
    )


def _not_held(architecture: Architecture, name: str, wanted: int, reason: str) -> IllegalGrowthError:
    return IllegalGrowthError(
        f"the config of this {architecture.model_type} cannot hold {name} {wanted}: {reason} Keep the number of "
        "key/value heads."
    )


def _taken(axis: Axis, old: Sizes, new: Sizes, prefix: str) -> Integers | None:
    """Which old entry of an axis each new one is, or copies; None if they are the same, in order."""
    entries = coordinates(axis, new)
    known = coordinates(axis, old)
    taken = positions(_translated(entries, axis.spaces(), old, new, prefix), known)
    return None if len(taken) == len(next(iter(known.values()))) and (taken[1:] > taken[:-1]).all() else taken


def _translated(entries: Coordinates, spaces: frozenset[Space], old: Sizes, new: Sizes, prefix: str) -> Coordinates:
    """New coordinates as old ones: query heads keep their number, key/value heads are copies."""
    queries, before = new[prefix + QUERIES], old[prefix + QUERIES]
    translated = {key: each.copy() for key, each in entries.items()}
    for head in (space for space in spaces if space.size == prefix + KV_HEADS):
        translated[head] //= before // queries  # -1, for absent, stays -1
        for query in (space for space in spaces if space.size == prefix + QUERIES):
            both = (entries[head] != ABSENT) & (entries[query] != ABSENT)
            number = (entries[head] * queries + entries[query])[both]
            translated[head][both], translated[query][both] = number // before, number % before
    return translated
