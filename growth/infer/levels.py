"""Drafts of a model whose sizes are read by their names, level by level (`growth.infer.groups`): of
text, and of whatever has one tower."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from transformers import PreTrainedModel

from growth.architectures.architecture import Architecture
from growth.architectures.sections import joined
from growth.architectures.sizes import Size, size_at
from growth.errors import UnsupportedModelError
from growth.hf.configs import Config
from growth.hf.nested import nested_sections
from growth.infer.counts import SmallCounts, small_counts
from growth.infer.drafts import Attempt, Draft, skeleton
from growth.infer.fields import whole_numbers
from growth.infer.groups import LEVELS, Group, Level, groups
from growth.infer.movement import adjusted
from growth.infer.proportions import Field
from growth.infer.sizes import growing, kept, sizes_of
from growth.proof.miniature import miniature


def by_levels(
    base: Config, model_class: type[PreTrainedModel], sizes: Mapping[str, Size] | None = None
) -> Iterator[Attempt]:
    """A draft for each level that says something else than those before it.

    Args:
        base: the config of the model.
        model_class: of the model.
        sizes: only fields of these grow; None for all that `growth.infer.sizes` finds.

    Raises:
        UnsupportedModelError: if the layers of the model differ in a size that grows.

    Example:
        >>> from transformers import ApertusForCausalLM
        >>> attempts = by_levels(Config({"model_type": "apertus"}), ApertusForCausalLM)
        >>> next(attempts)().growths[0]["hidden_size"]
        2
    """
    fields = growing(base, model_class)
    if sizes is not None:
        allowed = {size.field for size in sizes.values() if size.grows in ("width", "heads")}
        fields = [field for field in fields if field.path in allowed]
    _check_layers(base, fields)
    tried: list[tuple[Mapping[str, int], int]] = []
    for level in LEVELS:
        found = groups(fields, kept(base, fields), level)
        values = {path: value for group in found for path, value in group.small.items()}
        if (values, level.repeat) not in tried:
            tried.append((values, level.repeat))
            yield partial(_draft, level, base, model_class, fields)


def _draft(level: Level, base: Config, kind: type[PreTrainedModel], fields: Sequence[Field]) -> Draft:
    """The draft at one level."""
    others = kept(base, fields)
    found = groups(fields, others, level)
    if not found:
        raise UnsupportedModelError("no field of its config grows")
    small, declared, following = _miniature(base, fields, found, others, level)
    if chosen := adjusted(small, kind, fields, found):
        found = groups(fields, others, level, chosen)
        small, declared, following = _miniature(base, fields, found, others, level)
    return Draft(small, declared, tuple(_growths(found)), {*others} - following)


def _miniature(
    base: Config, fields: Sequence[Field], found: Sequence[Group], others: Mapping[str, int], level: Level
) -> tuple[Config, Architecture, set[str]]:
    """The miniature's config at small values of the groups, its declaration, and the fields that follow
    from others and cannot be written."""
    counts = SmallCounts(level.repeat)
    declared = skeleton(base, sizes_of(fields, found), counts)
    small = miniature(base, declared)
    counted = small_counts(base.parsed)
    fixed = {
        path: others[path]
        for path, value in whole_numbers(small.parsed).items()
        if path in others and value != others[path] and path not in counted and _stays(path)
    }
    if fixed:
        declared = skeleton(base, sizes_of(fields, found, fixed), counts)
        small = miniature(base, declared)
    wrong = {path for path in fixed if size_at(small.parsed, path) != fixed[path]}
    if wrong and not (level.compact or level.whole):
        raise UnsupportedModelError(f"{', '.join(sorted(wrong))} follow from other sizes")
    return small, declared, wrong


def _stays(path: str) -> bool:
    """Whether a whole number that the miniature changed is a size, not a count or a token."""
    name = path.rpartition(".")[2]
    return not re.search(r"_id$|_index$|vocab|position", name) and any(
        part in name for part in ("dim", "size", "rank", "channels")
    )


def _growths(found: Sequence[Group]) -> Iterator[dict[str, int]]:
    """By what each field is multiplied: distinct factors first, the same one last."""
    wanted = {
        "hidden": (2,),
        "width": (2, 3, 5),
        "feed-forward": (3, 5),
        "experts": (5, 3),
        "heads": (3, 2),
        "rank": (3, 2),
    }
    used: dict[str, int] = {}
    distinct: dict[str, int] = {}
    for group in found:
        choices = wanted[group.kind]
        place = used.get(group.kind, 0)
        used[group.kind] = place + 1
        distinct |= dict.fromkeys(group.small, choices[place % len(choices)])
    kinds = {
        path: (2 if group.kind in ("hidden", "width", "heads", "rank") else distinct[path])
        for group in found
        for path in group.small
    }
    yield distinct
    if kinds != distinct:
        yield kinds
    yield dict.fromkeys(distinct, 2)


def _check_layers(base: Config, fields: Sequence[Field]) -> None:
    """Refuse a config whose layers differ in a size that grows."""
    grown = {field.path for field in fields}
    for path, section in nested_sections(base.parsed).items():
        if getattr(section, "is_heterogeneous", False):
            differing = {joined(path, name) for name in section.per_layer_attributes or ()} & grown
            if differing:
                raise UnsupportedModelError(
                    f"the layers of this {section.model_type} differ in {', '.join(sorted(differing))} "
                    "(per_layer_config), which would have to grow layer by layer. Choose a model whose layers are "
                    "alike in it."
                )
