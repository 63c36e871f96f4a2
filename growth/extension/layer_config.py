"""A config with more layers: what it lists per layer follows, in the dialect it was written in."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from transformers import PreTrainedConfig

from growth.architectures.sizes import value_at
from growth.hf.config_json import section_at, spellings
from growth.hf.configs import Config, Raw

PER_LAYER = re.compile(r"layer|block|pattern|attention_types")
"""What the config fields have in their name that say something of every layer."""

PerLayer = Mapping[str, Sequence[Any]]
"""Path of a config field -> what it lists for each layer."""

EMPTY: PerLayer = MappingProxyType({})


def with_layers(
    config: Config,
    fields: Mapping[str, int],
    origins: Sequence[int],
    kept: Sequence[int] = (),
    *,
    numbers: bool = False,
    per_layer: PerLayer = EMPTY,
) -> Config:
    """The config with another number of layers. What it lists per layer follows.

    Args:
        config: of the model.
        fields: config field -> its new value.
        origins: for each new layer, the old one it is or copies, of the field whose value is as
            many.
        kept: for each old layer, its number among the new ones; by default the same.
        numbers: read a list as the numbers of some layers (``mlp_only_layers``) also where it is as
            long as there are layers.
        per_layer: what some fields are to list instead.
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
            if PER_LAYER.search(name) and isinstance(listed, list):
                given = per_layer.get(path[: path.rfind(".") + 1] + name)
                section[name] = _followed(listed, before, origins, numbers) if given is None else list(given)
        owner = value_at(config.parsed, path.rpartition(".")[0])
        _follow_stages(section, owner, before, kept or range(before), value)
    return _holding(Config(result), fields)


def _holding(config: Config, fields: Mapping[str, int]) -> Config:
    """The config with these numbers written where it would otherwise read others: T5's decoder has as
    many layers as its encoder where its own field is null or absent."""
    result = copy.deepcopy(dict(config))
    for path, value in fields.items():
        if value_at(Config(result).parsed, path) != value:
            section_at(result, path)[path.rpartition(".")[2]] = value
    return Config(result)


def is_per_layer(name: str, value: Any) -> bool:
    """Whether a config field lists something for each layer, or the numbers of some."""
    return isinstance(value, list | tuple) and PER_LAYER.search(name.rpartition(".")[2]) is not None


def _follow_stages(section: Raw, owner: PreTrainedConfig, before: int, kept: Sequence[int], wanted: int) -> None:
    """Which hidden states a backbone returns: entry i is what layer i receives, and the last one
    follows the last layer. Their names are those of the class."""
    names, indices = getattr(owner, "stage_names", None), getattr(owner, "out_indices", None)
    if not isinstance(names, list) or len(names) != before + 1 or indices is None:
        return
    entries = (*kept, wanted)
    written = [section.pop(name, None) for name in ("stage_names", "out_features", "out_indices")]
    if any(value is not None for value in written[1:]):
        section["out_indices"] = [entries[number % len(entries)] for number in indices]


def _followed(listed: list[Any], before: int, origins: Sequence[int], numbers: bool) -> list[Any]:
    """What a config lists per layer, or the numbers of the layers that it lists, for other layers.

    Example:
        Kinds with how often they are repeated (GPT-Neo), for three layers that become four:

        >>> _followed([[["global", "local"], 1], [["local"], 1]], 3, [0, 1, 1, 2], False)
        [[['global', 'local', 'local', 'local'], 1]]
    """
    if repeated := _repeated(listed):
        return [[[repeated[origin] for origin in origins], 1]] if len(repeated) == before else listed
    if len(listed) == before and not numbers:
        return [listed[origin] for origin in origins]
    if all(type(number) is int for number in listed):
        return [number for number, origin in enumerate(origins) if origin in listed]
    return listed


def _repeated(listed: list[Any]) -> list[str]:
    """``[[kinds, times], ...]`` in full; empty for another list."""
    pairs = [pair for pair in listed if isinstance(pair, list) and len(pair) == 2]
    if len(pairs) < len(listed) or not all(isinstance(kinds, list) and type(times) is int for kinds, times in pairs):
        return []
    return [kind for kinds, times in pairs for kind in kinds * times]
