"""A miniature, and the same one with every size that grows multiplied."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from growth.architectures.architecture import Architecture
from growth.architectures.sections import joined
from growth.architectures.sizes import Size, size_at
from growth.errors import GrowthError, UnsupportedModelError
from growth.hf.config_json import edited
from growth.hf.configs import Config
from growth.hf.own_modules import OwnWrapper
from growth.infer.counts import SmallCounts, small_counts
from growth.infer.fields import all_sections, whole_numbers
from growth.infer.groups import LEVELS, Group, Level, groups
from growth.infer.movement import adjusted
from growth.infer.probe import shapes
from growth.infer.proportions import Field
from growth.infer.sizes import growing, kept, sizes_of
from growth.infer.solution import starred
from growth.infer.trial import FAILED, run
from growth.proof.inputs import Inputs
from growth.proof.miniature import miniature


@dataclass(frozen=True)
class Pair:
    """A miniature and a larger one.

    Args:
        small: the miniature's config.
        wide: the same with every field of ``ratios`` multiplied.
        ratios: path of a config field -> by what it is multiplied.
        sizes: the sizes, with the small values under which the miniature was made.
        inputs: arguments of the forward pass that both take.
        architecture: a declaration with these sizes and nothing else, under which
            `growth.proof.miniature.miniature` makes ``small``.
    """

    small: Config
    wide: Config
    ratios: Mapping[str, int]
    sizes: Mapping[str, Size]
    inputs: Inputs
    architecture: Architecture


def skeleton(config: Mapping[str, Any], sizes: Mapping[str, Size], repeat: int = 1) -> Architecture:
    """A declaration that has sizes and nothing else, for `growth.proof.miniature.miniature`."""
    return Architecture(
        str(config["model_type"]), modules={}, laws={}, sizes=sizes, twin=SmallCounts(repeat)
    )


def pair(
    config: Mapping[str, Any], model_class: type[PreTrainedModel], sizes: Mapping[str, Size] | None = None
) -> Pair:
    """The miniature of a config and a larger one, both of which were built and run.

    Args:
        config: of the model.
        model_class: of the model, which ``config`` names.
        sizes: only fields of these grow; None for all that `growth.infer.sizes` finds.

    Raises:
        UnsupportedModelError: if the class runs at no sizes that were tried; it says why.

    Example:
        >>> from transformers import ApertusForCausalLM
        >>> found = pair({"model_type": "apertus", "architectures": ["ApertusForCausalLM"]}, ApertusForCausalLM)
        >>> found.ratios["hidden_size"], found.ratios["intermediate_size"]
        (2, 3)
    """
    base = Config.of(config)
    fields = growing(base, model_class)
    if sizes is not None:
        allowed = {size.field for size in sizes.values() if size.grows in ("width", "heads")}
        fields = [field for field in fields if field.path in allowed]
    _check_layers(base, fields)
    said: dict[str, None] = {}
    tried: list[tuple[Mapping[str, int], int]] = []
    for level in LEVELS:
        found = groups(fields, kept(base, fields), level)
        values = {path: value for group in found for path, value in group.small.items()}
        if (values, level.repeat) in tried:
            continue
        tried.append((values, level.repeat))
        try:
            return _pair_at(level, base, model_class, fields)
        except (GrowthError, *FAILED) as error:
            said[f"{type(error).__name__}: {str(error)[:160]}"] = None
    raise UnsupportedModelError(
        f"no miniature of {model_class.__name__} runs: {'; '.join(list(said)[:3])}. Declare the model with "
        "growth.register."
    )


def _pair_at(level: Level, base: Config, kind: type[PreTrainedModel], fields: Sequence[Field]) -> Pair:
    """The pair at one level. Raises whatever the class does, if it does not take it."""
    others = kept(base, fields)
    found = groups(fields, others, level)
    small, declared, inputs, following = _miniature(base, fields, found, others, level)
    if chosen := adjusted(small, kind, fields, found):
        found = groups(fields, others, level, chosen)
        small, declared, inputs, following = _miniature(base, fields, found, others, level)
    _check_names(small, base, kind)
    failed: BaseException | None = None
    for ratios in _ratios(found):
        try:
            wide = _multiplied(small, ratios, {*others} - following)
            run(wide, inputs)
            _check_names(wide, base, kind)
            return Pair(small, wide, ratios, declared.sizes, inputs, declared)
        except (GrowthError, *FAILED) as error:
            failed = failed or error
    raise failed or UnsupportedModelError("no field of its config grows")


def _check_names(other: Config, base: Config, kind: type[PreTrainedModel]) -> None:
    """Refuse sizes at which a module of the caller's has other parameters: torch's attention fuses
    matrices where keys are as wide as queries."""
    if not issubclass(kind, OwnWrapper):
        return
    one, another = ({starred(name) for name in shapes(config, kind)} for config in (other, base))
    if one != another:
        raise UnsupportedModelError("its parameters have other names at small sizes")


def _miniature(
    base: Config, fields: Sequence[Field], found: Sequence[Group], others: Mapping[str, int], level: Level
) -> tuple[Config, Architecture, Inputs, set[str]]:
    """The miniature's config at small values of the groups, its sizes and inputs, after a run; and the
    fields that follow from others and cannot be written."""
    declared = skeleton(base, sizes_of(fields, found), level.repeat)
    small = miniature(base, declared)
    counted = small_counts(base.parsed)
    fixed = {
        path: others[path]
        for path, value in whole_numbers(small.parsed).items()
        if path in others and value != others[path] and path not in counted and _stays(path)
    }
    if fixed:
        declared = skeleton(base, sizes_of(fields, found, fixed), level.repeat)
        small = miniature(base, declared)
    wrong = {path for path in fixed if size_at(small.parsed, path) != fixed[path]}
    if wrong and not (level.compact or level.whole):
        raise UnsupportedModelError(f"{', '.join(sorted(wrong))} follow from other sizes")
    inputs = run(small)
    return small, declared, inputs, wrong


def _stays(path: str) -> bool:
    """Whether a whole number that the miniature changed is a size, not a count or a token."""
    name = path.rpartition(".")[2]
    return not re.search(r"_id$|_index$|vocab|position", name) and any(
        part in name for part in ("dim", "size", "rank", "channels")
    )


def _ratios(found: Sequence[Group]) -> Iterator[dict[str, int]]:
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


def _multiplied(small: Config, ratios: Mapping[str, int], others: Collection[str]) -> Config:
    """The config with fields multiplied, all others as they are."""
    values = {path: size_at(small.parsed, path) for path in ratios}
    wide = edited(small, {path: ratios[path] * value for path, value in values.items()}, written=tuple(ratios))
    before, after = whole_numbers(small.parsed), whole_numbers(wide.parsed)
    moved = sorted(path for path in others if before.get(path) != after.get(path))
    if moved:
        raise UnsupportedModelError(f"{', '.join(moved)} follow from the sizes that grow")
    return wide


def _check_layers(base: Config, fields: Sequence[Field]) -> None:
    """Refuse a config whose layers differ in a size that grows."""
    grown = {field.path for field in fields}
    for path, section in all_sections(base.parsed):
        if getattr(section, "is_heterogeneous", False):
            differing = {joined(path, name) for name in section.per_layer_attributes or ()} & grown
            if differing:
                raise UnsupportedModelError(
                    f"the layers of this {section.model_type} differ in {', '.join(sorted(differing))} "
                    "(per_layer_config), which would have to grow layer by layer. Choose a model whose layers are "
                    "alike in it."
                )
