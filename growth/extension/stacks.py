"""The lists of layers that a model is made of: which there are, and which config field counts each.

Neither is declared. A list of layers is a numbered list of modules. A field counts it if the class,
built with one more there, has one more layer in that list and as many as before in all others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedConfig, PreTrainedModel

from growth.architectures.architecture import Architecture
from growth.architectures.sections import joined, sections
from growth.architectures.sizes import value_at
from growth.errors import FOREIGN_ERRORS, GrowthError
from growth.extension.layer_config import with_layers
from growth.extension.request import LAYERS, counts_layers
from growth.hf.configs import Config, config_to_build
from growth.hf.expected_tensors import expected_tensors, without_weights
from growth.hf.tensor_names import to_disk


@dataclass(frozen=True)
class LayerList:
    """One numbered list of layers of a model.

    Args:
        name: as the declaration spells it: ``layers``, ``encoder.block``.
        count: how many layers it has.
        field: the config field that counts them, dotted inside a nested config.
        size: the name under which the caller asks for a number of them: ``num_hidden_layers``, or
            ``decoder.num_hidden_layers`` where there are several lists.
        path: of the list in memory, where it may have another name than on disk (ViT's ``layers``
            are saved as ``encoder.layer``).
        also: the standard config field, where the class builds nothing by it and it has the same
            value. A decoder alone is counted by ``decoder_layers``, but its cache by
            ``encoder_layers``, if that is what the config calls ``num_hidden_layers``.
    """

    name: str
    count: int
    field: str
    size: str
    path: str
    also: tuple[str, ...] = ()


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
    idle: list[str] = []
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
        elif grown == counts and field == config.parsed.attribute_map.get(LAYERS, LAYERS):
            idle.append(field)
    several = len({field.rpartition(".")[0] for field in fields.values()}) < len(fields)
    paths = _paths(without_weights(config_to_build(config), model_class), architecture)
    return [
        LayerList(name, counts[name], field, _size(name, field, several), paths[name], () if several else (*idle,))
        for name, field in fields.items()
        if name in paths
    ]


def no_such_list(
    name: str, size: int | str, lists: Sequence[LayerList], config: Config, model_class: type[PreTrainedModel]
) -> str:
    """Why a number of layers cannot be chosen, and what to do instead.

    Args:
        name, size: what was asked for.
        lists: those of the model.
        config, model_class: of the model.
    """
    kind = config.parsed.model_type
    fields = [field for field in _counting_fields(config.parsed) if name in (field, _standard(config.parsed, field))]
    if fields and not lists:
        count = value_at(config.parsed, fields[0])
        more = with_layers(config, {fields[0]: count + 1}, [*range(count), count - 1])
        if expected_tensors(more, model_class) == expected_tensors(config, model_class):
            return (
                f"the {count} layers of this {kind} share their weights (with one more it has no weight more), so "
                "that a new layer cannot be silent alone. Keep the number of layers, and grow in width."
            )
    if not lists:
        return f"{name} is no number of layers of this {kind} that can be chosen. Leave it out."
    if len(lists) == 1:
        known = " or ".join(dict.fromkeys((lists[0].size, lists[0].field)))
        return (
            f"{name} is no size of a {kind}; its number of layers is {known}. Say --layers {size} (in Python "
            f"layers={size!r})."
        )
    named = {one.size: size for one in lists}
    options = " ".join(f"--size {one}={size}" for one in named)
    said = f"layers {size} does not say which" if name == LAYERS else f"{name} is no number of layers of a {kind}"
    return (
        f"{said}: it has {len(lists)} lists of layers. Name one or more of them: {options} (in Python sizes={named})."
    )


def _standard(parsed: PreTrainedConfig, field: str) -> str:
    """The standard name of a config field, where it is the number of layers."""
    section, dot, last = field.rpartition(".")
    owner = value_at(parsed, section)
    return section + dot + LAYERS if owner.attribute_map.get(LAYERS, LAYERS) == last else field


def _paths(model: PreTrainedModel, architecture: Architecture) -> dict[str, str]:
    """Name of a list of layers -> its path in memory. Loading renames tensors, and keeps their
    number."""
    in_memory = model.state_dict()
    on_disk = {id(value): name for name, value in to_disk(model, in_memory).items()}
    paths: dict[str, str] = {}
    for name, value in in_memory.items():
        here, there = layer_of(name), layer_of(architecture.canonical(on_disk.get(id(value), "")))
        if here is not None and there is not None and here[1] == there[1]:
            paths.setdefault(there[0], here[0])
    return paths


def _size(name: str, field: str, several: bool) -> str:
    section, dot, _ = field.rpartition(".")
    return f"{name.partition('.')[0]}.{LAYERS}" if several else section + dot + LAYERS


def _fixed(config: Config, fields: Sequence[str]) -> dict[str, int]:
    """The numbers that some fields have now, so that none follows another (T5's decoder has as many
    layers as its encoder where its own field is null)."""
    return {field: value_at(config.parsed, field) for field in fields}


def _counting_fields(parsed: PreTrainedConfig) -> Iterator[str]:
    """The fields that may count layers: the standard one first, then by name; nested ones dotted."""
    for section in sections(parsed):
        owner: PreTrainedConfig = value_at(parsed, section)
        standard = owner.attribute_map.get(LAYERS, LAYERS)
        known = owner.to_dict()
        names = [name for name in known if counts_layers(name) and type(known[name]) is int and known[name] > 0]
        yield from (joined(section, name) for name in sorted(names, key=lambda name: (name != standard, name)))


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
