"""The experts of a model: how many there are, how its class holds them, and how many copies of each
a growth takes (`growth.extension.expert_copies`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedModel

from growth.architectures.architecture import Architecture
from growth.architectures.patterns import pattern_of
from growth.architectures.sections import joined, sections
from growth.architectures.sizes import value_at
from growth.errors import GrowthError, IllegalGrowthError
from growth.extension.request import CHOSEN, EXPERT_SIZE, EXPERTS, counts_chosen, counts_experts
from growth.hf.config_json import edited, section_at
from growth.hf.configs import Config
from growth.hf.expected_tensors import expected_tensors

GROUPS = ("n_group", "topk_group")
"""Config fields: how many groups of experts there are, and of how many of them experts are chosen."""
BALANCE = "router_aux_loss_coef"
"""Config field: the weight of a loss that grows with the number of experts times that of the chosen."""
SCALE = "routed_scaling_factor"
"""Config field: a factor on what the chosen experts add."""


@dataclass(frozen=True)
class Experts:
    """The experts of a model, and how its class holds them.

    Args:
        section: the path of the nested config that counts them; empty for the config itself.
        counter, chosen: the fields in it that count all of them, and those that a token takes.
        count, per_token: these numbers.
        lists: name of a tensor of one expert, numbers as ``*`` -> which of the numbers is the
            expert's.
        fused: name of a tensor of all experts, likewise -> the dimensions with an entry for each.
    """

    section: str
    counter: str
    chosen: str
    count: int
    per_token: int
    lists: Mapping[str, int] = field(default_factory=dict)
    fused: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def at(self, name: str) -> str:
        """The path of a field of its section."""
        return joined(self.section, name)


_SHARED = re.compile(r"(^|_)shared_experts?$")


def follows_experts(name: str) -> bool:
    """Whether a config field changes where a model gets more experts.

    Example:
        >>> follows_experts("n_group"), follows_experts("n_shared_experts"), follows_experts("vocab_size")
        (True, True, False)
    """
    return name in (*GROUPS, BALANCE, SCALE) or counts_shared(name)


def counts_shared(name: str) -> bool:
    """Whether a config field counts experts that every token takes.

    Example:
        >>> counts_shared("n_shared_experts"), counts_shared("num_local_experts")
        (True, False)
    """
    return _SHARED.search(name) is not None


def expert_size(sizes: Iterable[str]) -> str:
    """The name of the size of an expert: its own, or that of all feed-forward layers.

    Example:
        >>> expert_size({"intermediate_size": 96, "moe_intermediate_size": 24})
        'moe_intermediate_size'
    """
    own = [name for name in sizes if name.rpartition(".")[2] == "moe_intermediate_size"]
    return own[0] if own else "intermediate_size"


def experts_of(config: Config, architecture: Architecture, model_class: type[PreTrainedModel]) -> Experts | None:
    """The experts of a model; None if it has none.

    Which field counts them is not declared: the class, built with twice as many, has twice as many
    tensors of one expert, or entries for each in a tensor of all, and everything else as it was.

    Args:
        config: of the model.
        architecture: the declaration at that config.
        model_class: its class.
    """
    parsed = config.parsed
    for section in sections(parsed):
        owner: Any = value_at(parsed, section)
        known = owner.to_dict()
        chosen = owner.attribute_map.get(CHOSEN, CHOSEN)
        for name in known:
            count = known[name]
            if counts_experts(name) and type(count) is int and count > 0 and type(known.get(chosen)) is int:
                found = Experts(section, name, chosen, count, known[chosen])
                try:
                    twice = edited(config, dict(counts_for(found, config, 2)))
                    lists, fused = _changed(config, twice, 2, count, architecture, model_class)
                except GrowthError:
                    continue
                if lists or fused:
                    return Experts(section, name, chosen, count, known[chosen], lists, fused)
    return None


def _changed(
    old: Config,
    new: Config,
    copies: int,
    count: int,
    architecture: Architecture,
    model_class: type[PreTrainedModel],
) -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
    """What `Experts` says of tensors, from those of a config with more experts. Nothing where
    something else changes as well."""
    before, after = (
        {architecture.canonical(name): shape for name, shape in expected_tensors(config, model_class)[0].items()}
        for config in (old, new)
    )
    lists: dict[str, int] = {}
    fused: dict[str, tuple[int, ...]] = {}
    for name, shape in after.items():
        if name not in before:
            number = next((n for n, _ in _numbers(name) if _renumbered(name, n, lambda e: e % count) in before), None)
            if number is None:
                return {}, {}
            lists[pattern_of(name)] = number
        elif shape != before[name]:
            pairs = list(zip(before[name], shape, strict=True))
            if any(new != old and (old, new) != (count, count * copies) for old, new in pairs):
                return {}, {}
            fused[pattern_of(name)] = tuple(axis for axis, (old, new) in enumerate(pairs) if old != new)
    return lists, fused


def _numbers(name: str) -> Iterator[tuple[int, int]]:
    """(Which of the numbers in a tensor's name, that number)."""
    return enumerate(int(part) for part in name.split(".") if part.isdigit())


def _renumbered(name: str, which: int, new: Any) -> str:
    """A name with one of its numbers changed by a function."""
    parts = name.split(".")
    place = [index for index, part in enumerate(parts) if part.isdigit()][which]
    return ".".join((*parts[:place], str(new(int(parts[place]))), *parts[place + 1 :]))


def asked_copies(found: Experts | None, asked: Mapping[str, int], size: int) -> tuple[int, int]:
    """How many copies of each expert a growth takes, and how many parts they share its features out
    in; 1 and 1 where no more are asked for.

    Args:
        found: the experts of the model.
        asked: ``num_experts``, ``num_experts_per_tok`` and ``expert_size``, those that are asked for.
        size: how large an expert is.

    Raises:
        IllegalGrowthError: for numbers at which the model would be another one.
    """
    if found is None:
        raise IllegalGrowthError(
            "this model has no experts whose number can be chosen. Leave experts, experts_per_token and expert_size "
            "out."
        )
    count, chosen = asked.get(EXPERTS, found.count), asked.get(CHOSEN)
    if count < found.count or count % found.count:
        raise IllegalGrowthError(
            f"cannot have {count} experts: every one of the {found.count} must be copied as often as any other, so "
            f"that a token still weighs them alike. Name a multiple of {found.count}, such as {2 * found.count}."
        )
    copies = count // found.count
    if chosen not in (None, copies * found.per_token):
        raise IllegalGrowthError(
            f"with {count} experts of which each token takes {chosen} this is another model: "
            + (
                f"all {copies} copies of the {found.per_token} that a token took must be taken. Leave "
                f"experts_per_token out, which makes it {copies * found.per_token}"
                if copies > 1
                else f"it took {found.per_token} of them. Leave experts_per_token out"
            )
            + (
                f", or name {found.count * int(chosen or 1) // found.per_token} experts."
                if (chosen or 1) % found.per_token == 0 and (chosen or 1) > found.per_token
                else "."
            )
        )
    return copies, _parts(copies, size, asked.get(EXPERT_SIZE, size))


def _parts(copies: int, size: int, wanted: int) -> int:
    """In how many parts the copies of an expert share out its features, to have no more than are
    wanted."""
    parts = [n for n in range(1, copies + 1) if copies % n == 0 and size % n == 0]
    fitting = [n for n in parts if size // n <= wanted]
    if not fitting:
        possible = " or ".join(str(size // n) for n in parts[1:])
        raise IllegalGrowthError(
            f"cannot have experts of size {wanted}: {copies} {'copies' if copies > 1 else 'copy'} of each expert can "
            f"share out its {size} features in equal parts only. "
            + (f"Name {possible}, or more experts." if possible else f"Name more experts, or at least {size}.")
        )
    return fitting[0]


def counts_for(found: Experts, config: Config, copies: int, sigmoid: bool = False) -> Iterator[tuple[str, Any]]:
    """Config fields, and what they become with so many copies of each expert.

    Args:
        found: the experts.
        config: of the model.
        copies: of each expert.
        sigmoid: whether a score is a sigmoid, which does not depend on the others.
    """
    known = value_at(config.parsed, found.section).to_dict()
    yield found.at(found.counter), copies * found.count
    for name, value in {**section_at(dict(config), found.at("x")), found.chosen: found.per_token}.items():
        if name == found.chosen or (counts_chosen(name) and value == found.per_token):
            yield found.at(name), copies * found.per_token
    if (known.get(GROUPS[0]) or 1) > 1:
        yield from ((found.at(name), copies * known[name]) for name in GROUPS if known.get(name))
    if known.get(BALANCE):
        yield found.at(BALANCE), known[BALANCE] / copies
    if sigmoid and known.get("norm_topk_prob") is False and known.get(SCALE):
        yield found.at(SCALE), known[SCALE] / copies  # each score stays, and there are as many more
