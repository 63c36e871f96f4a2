"""Kinds of layers: which layers a class builds alike, and where the old ones stand among new ones so
that each is built as it was."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from growth.architectures.architecture import Architecture
from growth.architectures.sizes import value_at
from growth.errors import FOREIGN_ERRORS, GrowthError, IllegalGrowthError
from growth.extension.extension import Stack
from growth.extension.layer_config import EMPTY, PER_LAYER, PerLayer, with_layers
from growth.extension.placement import Insert, aligned, placed
from growth.extension.stacks import LayerList, layer_lists
from growth.hf.configs import Config, config_to_build
from growth.hf.expected_tensors import without_weights


@dataclass(frozen=True)
class Kind:
    """How a layer is built, but for its number.

    Args:
        modules: the path, the class and the plain attributes of every module in it.
        listed: what the config lists of it, by field: the model's own code may read that.
        shapes: the path and shape of every weight.
    """

    modules: tuple[Any, ...]
    listed: tuple[tuple[str, str], ...]
    shapes: tuple[tuple[str, tuple[int, ...]], ...]


def kinds_of_layers(config: Config, model_class: type[PreTrainedModel], layers: LayerList) -> list[Kind]:
    """For each layer of a list, what kind it is: two of one kind are built alike, but for their
    numbers, and the config lists the same for both.

    Args:
        config: of the model; its list may be longer than ``layers`` says.
        model_class: its class.
        layers: the list.
    """
    modules = list(without_weights(config_to_build(config), model_class).get_submodule(layers.path).children())
    # Numbers of layers (``mlp_only_layers``) may be as many as there are layers, so only words count
    section = layers.field.rpartition(".")[0]
    owner: PreTrainedConfig = value_at(config.parsed, section)
    listed = {
        name: values
        for name, values in owner.to_dict().items()
        if PER_LAYER.search(name) and isinstance(values, list) and len(values) == len(modules) and _words(values)
    }
    return [
        _kind(layer, tuple((name, str(values[number])) for name, values in listed.items()))
        for number, layer in enumerate(modules)
    ]


def same_layers(one: Config, other: Config, architecture: Architecture, model_class: type[PreTrainedModel]) -> bool:
    """Whether the class builds the same layers from two configs."""
    lists = layer_lists(one, architecture, model_class)
    same = [kinds_of_layers(config, model_class, layers) for config in (one, other) for layers in lists]
    return same[: len(lists)] == same[len(lists) :]


def _words(listed: list[Any]) -> bool:
    return all(isinstance(value, str) for value in listed)


_PLAIN = (bool, int, float, str, torch.dtype, type(None))
_NUMBERS = re.compile(r"layer_(idx|id|number|index)$|^layer$|^(idx|index)$|^training$")
"""Attributes that hold a layer's own number."""


def _kind(layer: nn.Module, listed: tuple[tuple[str, str], ...]) -> Kind:
    found = []
    for name, module in layer.named_modules():
        plain = {
            key: value
            for key, value in vars(module).items()
            if isinstance(value, _PLAIN) and not key.startswith("_") and not _NUMBERS.search(key)
        }
        found.append((name, type(module).__qualname__, tuple(sorted(plain.items()))))
    return Kind(tuple(found), listed, tuple((name, tuple(value.shape)) for name, value in layer.named_parameters()))


def places(
    config: Config,
    model_class: type[PreTrainedModel],
    lists: Sequence[LayerList],
    layers: LayerList,
    wanted: int,
    insert: Insert,
    per_layer: PerLayer = EMPTY,
) -> tuple[Config, Stack]:
    """The config with more layers, and which old layer each of them is or copies: one that the class
    builds alike."""
    fields = {other.field: other.count for other in lists} | dict.fromkeys((layers.field, *layers.also), wanted)
    desired = placed(insert, layers.count, wanted)
    old = kinds_of_layers(config, model_class, layers)
    kept, reason, nearest = desired, "", ""
    for numbers in (False, True):
        for _ in range(2):  # as wanted; then where the class has layers of the same kinds
            stack = Stack(layers.name, layers.path, tuple(insert.copied(kept, wanted)), tuple(kept))
            try:
                new = with_layers(config, fields, stack.origins, stack.kept, numbers=numbers, per_layer=per_layer)
                kinds = kinds_of_layers(new, model_class, layers)
            except (GrowthError, *FOREIGN_ERRORS) as error:
                reason = reason or ("" if numbers else str(error).partition(". ")[0])
                break
            if (exact := _of_their_kind(stack, old, kinds)) is not None:
                if kept == desired or insert.way in ("stack", "even"):
                    return new, exact
                nearest = nearest or f" The nearest places are --insert {Insert.at(kept, wanted)}."
            found = aligned(desired, old, kinds)
            if found is None or found == kept:
                break
            kept = found
        kept = desired
    follows = f"what a layer is follows from its number{f' ({reason})' if reason else ''}"
    raise IllegalGrowthError(
        f"{wanted} layers of this {config.parsed.model_type} cannot hold its {layers.count} with insert {insert}: "
        f"{follows}." + (nearest or " Keep the number of layers, and grow in width.")
    )


def _of_their_kind(stack: Stack, old: Sequence[Kind], new: Sequence[Kind]) -> Stack | None:
    """The stack with each new layer copied from the nearest old one of its kind. None if an old
    layer would be another than it was, or there is none to copy."""
    if not old or len(new) != len(stack.origins):
        return None
    origins = []
    for number, near in enumerate(stack.origins):
        alike = [origin for origin, kind in enumerate(old) if kind == new[number]]
        if number not in stack.added:
            if near not in alike:
                return None
            origins.append(near)
            continue
        # of the same kind; else with weights of the same shapes, which is enough for a silent layer
        alike = alike or [origin for origin, kind in enumerate(old) if kind.shapes == new[number].shapes]
        if not alike:
            return None
        origins.append(min(alike, key=lambda origin: (abs(origin - near), origin)))
    return replace(stack, origins=tuple(origins))
