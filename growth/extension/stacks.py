"""The lists of layers that a model is made of: which there are, and which config field counts each.

Neither is declared. A list of layers is a numbered list of modules. A field counts it if the class,
built with one more there, has one more layer in that list and as many as before in all others."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from growth.architectures.architecture import Architecture
from growth.architectures.sizes import value_at
from growth.errors import FOREIGN_ERRORS, GrowthError
from growth.extension.request import counts_layers
from growth.hf.config_json import section_at, spellings
from growth.hf.configs import Config, config_to_build
from growth.hf.expected_tensors import expected_tensors

LAYERS = "num_hidden_layers"
"""The standard name of a number of layers."""

_PER_LAYER = re.compile(r"layer|block|pattern")
"""What the config fields have in their name that say something of every layer."""


@dataclass(frozen=True)
class LayerList:
    """One numbered list of layers of a model.

    Args:
        name: as the declaration spells it: ``layers``, ``encoder.block``.
        count: how many layers it has.
        field: the config field that counts them, dotted inside a nested config.
        size: the name under which the caller asks for a number of them: ``num_hidden_layers``, or
            ``decoder.num_hidden_layers`` where there are several lists.
    """

    name: str
    count: int
    field: str
    size: str


def layer_lists(config: Config, architecture: Architecture, model_class: type[PreTrainedModel]) -> list[LayerList]:
    """The lists of layers of a model whose length a config field says.

    Args:
        config: of the model.
        architecture: the declaration at that config.
        model_class: the class it names.

    Example:
        >>> from growth.architectures import find
        >>> from transformers import T5ForConditionalGeneration
        >>> t5 = Config({"model_type": "t5", "d_model": 8, "num_layers": 6, "num_decoder_layers": 6})
        >>> for found in layer_lists(t5, find("t5"), T5ForConditionalGeneration):
        ...     print(found.name, found.count, found.field, found.size)
        encoder.block 6 num_layers encoder.num_hidden_layers
        decoder.block 6 num_decoder_layers decoder.num_hidden_layers
    """
    counts = numbered_lists(config, architecture, model_class)
    candidates = [
        field for field in _counting_fields(config.parsed) if value_at(config.parsed, field) in {*counts.values()}
    ]
    fields: dict[str, str] = {}
    for field in candidates:
        count = value_at(config.parsed, field)
        try:
            grown = numbered_lists(
                with_layers(config, {**_fixed(config, candidates), field: count + 1}, [*range(count), count - 1]),
                architecture,
                model_class,
            )
        except (GrowthError, *FOREIGN_ERRORS):
            continue
        longer = [name for name in counts if grown.get(name) == counts[name] + 1]
        if len(longer) == 1 and all(grown.get(name) == counts[name] for name in counts if name not in longer):
            fields.setdefault(longer[0], field)
    several = len({field.rpartition(".")[0] for field in fields.values()}) < len(fields)
    return [LayerList(name, counts[name], field, _size(name, field, several)) for name, field in fields.items()]


def _size(name: str, field: str, several: bool) -> str:
    section, dot, _ = field.rpartition(".")
    return f"{name.partition('.')[0]}.{LAYERS}" if several else section + dot + LAYERS


def _fixed(config: Config, fields: Sequence[str]) -> dict[str, int]:
    """The numbers that some fields have now, so that none follows another (T5's decoder has as many
    layers as its encoder where its own field is null)."""
    return {field: value_at(config.parsed, field) for field in fields}


def _counting_fields(parsed: PreTrainedConfig) -> Iterator[str]:
    """The fields that may count layers: the standard one first, then by name; nested ones dotted."""
    for section in ("", *(f"{part}." for part in parsed.sub_configs if value_at(parsed, part) is not None)):
        owner: PreTrainedConfig = value_at(parsed, section[:-1]) if section else parsed
        standard = owner.attribute_map.get(LAYERS, LAYERS)
        known = owner.to_dict()
        names = [name for name in known if counts_layers(name) and type(known[name]) is int and known[name] > 0]
        yield from (section + name for name in sorted(names, key=lambda name: (name != standard, name)))


def numbered_lists(config: Config, architecture: Architecture, model_class: type[PreTrainedModel]) -> dict[str, int]:
    """Name of a numbered list of modules -> its length; the outermost of lists in lists."""
    shapes, _ = expected_tensors(config, model_class)
    counts: dict[str, int] = {}
    for name in shapes:
        if (found := layer_of(architecture.canonical(name))) is not None:
            counts[found[0]] = max(counts.get(found[0], 0), found[1] + 1)
    return counts


def layer_of(canonical: str) -> tuple[str, int, str] | None:
    """The list and the number of the layer that a tensor belongs to, and the rest of its name.

    Example:
        >>> layer_of("encoder.block.3.layer.0.layer_norm.weight")
        ('encoder.block', 3, 'layer.0.layer_norm.weight')
    """
    found = re.fullmatch(r"(.*?)\.(\d+)\.(.*)", canonical)
    return None if found is None else (found[1], int(found[2]), found[3])


def with_layers(config: Config, fields: Mapping[str, int], origins: Sequence[int], *, numbers: bool = False) -> Config:
    """The config with another number of layers. What it lists per layer follows.

    Args:
        config: of the model.
        fields: config field -> its new value.
        origins: for each new layer, the old one it is or copies, of the field whose value is as
            many.
        numbers: read a list as the numbers of some layers (``mlp_only_layers``) also where it is as
            long as there are layers.
    """
    result = copy.deepcopy(dict(config))
    for path, value in fields.items():
        before = value_at(config.parsed, path)
        if before == value and path.rpartition(".")[2] not in section_at(result, path):
            continue
        section = section_at(result, path)
        section.update(dict.fromkeys(spellings(config, path), value))
        if value == before:
            continue
        for name, listed in section.items():
            if _PER_LAYER.search(name) and isinstance(listed, list):
                section[name] = _followed(listed, before, origins, numbers)
    return Config(result)


def _followed(listed: list[Any], before: int, origins: Sequence[int], numbers: bool) -> list[Any]:
    """What a config lists per layer, or the numbers of the layers that it lists, for other layers."""
    if len(listed) == before and not numbers:
        return [listed[origin] for origin in origins]
    if all(type(number) is int for number in listed):
        return [number for number, origin in enumerate(origins) if origin in listed]
    return listed


def built(config: Config, model_class: type[PreTrainedModel]) -> PreTrainedModel:
    """The class at a config, without weights."""
    with torch.device("meta"):
        model: PreTrainedModel = model_class._from_config(config_to_build(config), attn_implementation="eager")
    return model


@dataclass(frozen=True)
class Kind:
    """How a layer is built, but for its number.

    Args:
        modules: the path, the class and the plain attributes of every module in it.
        shapes: the path and shape of every weight.
    """

    modules: tuple[Any, ...]
    shapes: tuple[tuple[str, tuple[int, ...]], ...]


def kinds_of_layers(model: PreTrainedModel, name: str, count: int) -> list[Kind]:
    """For each layer of a list, what kind it is: two of one kind are built alike, but for their
    numbers.

    Args:
        model: without weights.
        name: of the list, as the declaration spells it.
        count: its length.
    """
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count and f".{path}".endswith(f".{name}"):
            return [_kind(layer) for layer in module]
    return []


_PLAIN = (bool, int, float, str, torch.dtype, type(None))
_NUMBERS = re.compile(r"layer_(idx|id|number|index)$|^layer$|^(idx|index)$|^training$")
"""Attributes that hold a layer's own number."""


def _kind(layer: nn.Module) -> Kind:
    found = []
    for name, module in layer.named_modules():
        plain = {
            key: value
            for key, value in vars(module).items()
            if isinstance(value, _PLAIN) and not key.startswith("_") and not _NUMBERS.search(key)
        }
        found.append((name, type(module).__qualname__, tuple(sorted(plain.items()))))
    return Kind(tuple(found), tuple((name, tuple(value.shape)) for name, value in layer.named_parameters()))
