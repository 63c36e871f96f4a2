"""A model beside another one: in what they differ, as a growth looks at it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from transformers import AutoConfig, PreTrainedModel

from growth.architectures.architecture import Architecture
from growth.architectures.choosable import choosable_sizes, has_field
from growth.architectures.sizes import Size, Sizes
from growth.errors import FOREIGN_ERRORS, GrowthError, shown
from growth.extension.experts import Experts, expert_size, experts_of, follows_experts
from growth.extension.kinds import same_layers
from growth.extension.layer_config import is_per_layer
from growth.extension.request import CHOSEN, EXPERTS, LAYERS, counts_chosen, counts_experts, counts_layers
from growth.extension.stacks import LayerList, layer_lists
from growth.hf.config_comparison import alike, fields_of
from growth.hf.config_fields import is_unused
from growth.hf.config_json import edited
from growth.hf.configs import Config, parse
from growth.hf.expected_tensors import expected_tensors
from growth.plan.keep import MODEL_TYPE, words_for
from growth.plan.options import Options

TIE = "tie_word_embeddings"
_TOLD = re.compile(r"dropout|_pdrop$|_token_id$|^initializer_|^init_")
"""Fields on which no output depends, and of which a plan says that they differ."""


@dataclass(frozen=True)
class Difference:
    """Something in which two models differ.

    Args:
        names: what it is called; the first is shown.
        own, other: its value in the model, and in the other one.

    Example:
        >>> str(Difference(("tie_word_embeddings",), True, False))
        'tie_word_embeddings false (true here)'
    """

    names: tuple[str, ...]
    own: Any
    other: Any

    @property
    def name(self) -> str:
        """Of the size, or of the config field."""
        return self.names[0]

    @property
    def word(self) -> str:
        """The word to recommend for keeping it."""
        lists = isinstance(self.own, list) or isinstance(self.other, list)
        return self.name if lists else words_for(self.name)[0]

    def __str__(self) -> str:
        return f"{self.name} {_brief(self.other)} ({_brief(self.own)} here)"


def _brief(value: Any) -> str:
    """A value as config.json writes it."""
    try:
        return shown(json.dumps(value))[1:-1]
    except FOREIGN_ERRORS:
        return shown(value)


@dataclass(frozen=True)
class Beside:
    """A model beside the one that ``like`` names.

    Args:
        config: of the model that grows.
        architecture: the declaration at that config.
        model_class: its class.
        options: the caller's.
        old: its sizes.
    """

    config: Config
    architecture: Architecture
    model_class: type[PreTrainedModel]
    options: Options
    old: Sizes

    @cached_property
    def own(self) -> dict[str, Any]:
        """The fields of the model."""
        return fields_of(self.config.parsed)

    @cached_property
    def other(self) -> dict[str, Any]:
        """The fields of the other model; none where it is of another type."""
        like = self.options.like
        same = like.model_type == self.config[MODEL_TYPE]
        return fields_of(parse(like.config)) if same else {}

    @cached_property
    def choosable(self) -> dict[str, Size]:
        """The sizes that can be chosen."""
        return choosable_sizes(self.architecture.sizes, self.config.parsed)

    @cached_property
    def lent(self) -> dict[str, int]:
        """The other model's sizes, those that this one has, by their names here."""
        names = {field: name for name, field in self.architecture.fields().items()}
        said = {names.get(asked, asked): value for asked, value in self.options.like.sizes.items()}
        own = {name: value for name, value in said.items() if name in self.choosable}
        # of a config, a size without a field follows from those that are taken
        return {name: value for name, value in own.items() if not (self.options.like.config and self._follows(name))}

    @cached_property
    def lists(self) -> list[LayerList]:
        """The model's lists of layers, where the other model may have another number of them, or the
        caller names one."""
        if any(map(counts_layers, self.options.sizes)):
            differing = True
        elif self.other:
            differing = any(counts_layers(path) and self.own.get(path) != self.other[path] for path in self.other)
        else:
            differing = any(map(counts_layers, self.options.like.sizes))
        return layer_lists(self.config, self.architecture, self.model_class) if differing else []

    def names(self) -> set[str]:
        """All names of fields and sizes."""
        sizes = self.architecture.sizes
        return {*self.own, *self.other, *sizes, *(size.field for size in sizes.values() if size.field), LAYERS}

    def sizes(self) -> Iterator[Difference]:
        """The sizes that differ, but for those the caller names and those that always follow."""
        for name, value in self.lent.items():
            field = self.architecture.sizes[name].field
            if value != self.old[name] and not self._is_named(name, field):
                yield Difference((name, field), self.old[name], value)

    def layers(self) -> Iterator[Difference]:
        """The numbers of layers that differ, but for those the caller names."""
        for one in self.lists:
            said = self.options.like.sizes
            alone = (LAYERS,) if len(self.lists) == 1 else ()
            names = (one.size, one.field, *alone)
            wanted = (
                self.other.get(one.field) if self.other else next((said[name] for name in names if name in said), None)
            )
            if type(wanted) is int and wanted != one.count and not self._is_named(*names):
                yield Difference((one.size, one.field), one.count, wanted)

    @cached_property
    def of_experts(self) -> Experts | None:
        """The model's experts, where the other model may have others, or the caller names some."""
        differing = any(
            (counts_experts(path) or counts_chosen(path)) and self.own.get(path) != self.other[path]
            for path in self.other
        ) or any(
            name in (EXPERTS, CHOSEN) or counts_experts(name) or counts_chosen(name) for name in self.options.sizes
        )
        return experts_of(self.config, self.architecture, self.model_class) if differing else None

    def experts(self) -> Iterator[Difference]:
        """The numbers of experts that differ, of all and of those that a token takes, but where the
        caller names them."""
        if (found := self.of_experts) is None:
            return
        counter, chosen = found.at(found.counter), found.at(found.chosen)
        if self._is_named(EXPERTS, CHOSEN, counter, chosen):
            return
        for name, path, own in ((EXPERTS, counter, found.count), (CHOSEN, chosen, found.per_token)):
            if type(wanted := self.other.get(path)) is int and wanted != own:
                yield Difference((name, path), own, wanted)

    @property
    def chosen(self) -> int:
        """How many experts a token takes in the other model."""
        found = self.of_experts
        return 0 if found is None else int(self.other[found.at(found.chosen)])

    @property
    def expert_size(self) -> str:
        """The name of the size of an expert."""
        return expert_size(self.architecture.sizes)

    def ties(self) -> Iterator[Difference]:
        """The ties that differ, but for those the caller unties."""
        for path, value in self.other.items():
            own = bool(self.own.get(path))
            if path.rpartition(".")[2] == TIE and own != bool(value) and not (own and self.options.untie):
                yield Difference((path,), own, bool(value))

    @cached_property
    def is_tied(self) -> bool:
        """Whether the class ties any weights at the config."""
        return bool(expected_tensors(self.config, self.model_class)[1])

    @cached_property
    def with_experts(self) -> frozenset[str]:
        """The fields that follow where there are more experts: a growth makes of them what the function
        needs, and that is compared afterwards."""
        if (found := self.of_experts) is None or not any(True for _ in self.experts()):
            return frozenset()
        names = {path.rpartition(".")[2] for path in self.own if path.rpartition(".")[0] == found.section}
        return frozenset(found.at(name) for name in names if follows_experts(name))

    def fields(self) -> Iterator[Difference]:
        """All else that differs and that an output, or the shape of a weight, may depend on. What says
        something of each layer changes with their number, so it is left out where that changes."""
        deeper = any(one.count != self.other.get(one.field) for one in self.lists)
        for path in sorted({*self.own, *self.other} if self.other else ()):
            last, own, other = path.rpartition(".")[2], self.own.get(path), self.other.get(path)
            if (
                path in self.aside | self.with_experts
                or path not in self._known
                or is_unused(last)
                or alike(own, other)
            ):
                continue
            follows = self.follows_layers(path)
            if not (follows and (deeper or self.harmless(self.config, path, other))):
                yield Difference((path,), own, other)

    def harmless(self, config: Config, path: str, value: Any) -> Config | None:
        """The config with another value of a field about layers, if the class builds the same from
        it."""
        try:
            changed = edited(config, {path: value})
            same = same_layers(config, changed, self.architecture, self.model_class)
        except (GrowthError, *FOREIGN_ERRORS):
            return None
        return changed if same else None

    def follows_layers(self, path: str) -> bool:
        """Whether a field counts layers, or says something of each of them, without deciding how many
        there are."""
        last = path.rpartition(".")[2]
        lists = is_per_layer(last, self.own.get(path)) or is_per_layer(last, self.other.get(path))
        return (lists or counts_layers(last)) and path not in self.aside

    def unused(self) -> Iterator[Difference]:
        """The fields that differ and on which no output depends, those worth a word."""
        for path in sorted({*self.own, *self.other} if self.other else ()):
            last, own, other = path.rpartition(".")[2], self.own.get(path), self.other.get(path)
            told = _TOLD.search(last) if path in self._known else not is_unused(last)
            if told and (is_unused(last) or path not in self._known) and not alike(own, other):
                yield Difference((path,), own, other)

    @cached_property
    def aside(self) -> frozenset[str]:
        """The fields that are compared as sizes, layers or ties, and not as fields."""
        sizes, experts = self.architecture.sizes.values(), self.of_experts
        return frozenset(
            {
                *(size.field for size in sizes),
                *(old for size in sizes for old in size.old_names),
                *(one.field for one in self.lists),
                *([experts.at(experts.counter), experts.at(experts.chosen)] if experts else ()),
                *(path for path in {*self.own, *self.other} if path.rpartition(".")[2] in (TIE, MODEL_TYPE)),
            }
        )

    @cached_property
    def _known(self) -> frozenset[str]:
        """The fields that the config's class has; it reads no others."""
        return frozenset(fields_of(AutoConfig.for_model(self.config[MODEL_TYPE])))

    def _follows(self, name: str) -> bool:
        """Whether a size has no field, so that it is always what others make it."""
        size = self.architecture.sizes[name]
        return size.follows is not None and not has_field(self.config.parsed, size)

    def _is_named(self, *names: str) -> bool:
        return any(name in self.options.sizes for name in names if name)
