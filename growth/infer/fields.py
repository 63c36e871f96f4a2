"""The whole numbers in a config, those of nested configs too, by their dotted paths."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from growth.architectures.sections import joined
from growth.errors import FOREIGN_ERRORS
from growth.infer.meanings import kind


def all_sections(config: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, config) of the config itself, "" , and of every config nested in it, at any depth.

    Example:
        >>> from transformers import CLIPConfig
        >>> sorted(path for path, _ in all_sections(CLIPConfig()))
        ['', 'text_config', 'vision_config']
    """
    yield path, config
    for name in getattr(config, "sub_configs", {}):
        inner = getattr(config, name, None)
        if isinstance(inner, PreTrainedConfig):
            yield from all_sections(inner, joined(path, name))


def entries(section: Any) -> dict[str, Any]:
    """The fields of one section, without those of the sections inside it. A field whose value
    differs by layer has the one that most layers share.

    Args:
        section: a config of transformers, or of another library: a dataclass, a namespace or a
            mapping.
    """
    if isinstance(section, PreTrainedConfig):
        found = section.to_dict()
        return {name: value for name, value in found.items() if name not in section.sub_configs}
    return dict(section) if isinstance(section, dict) else dict(vars(section))


def whole_numbers(config: Any) -> dict[str, int]:
    """Path -> value of every field that is a whole number.

    Example:
        >>> from transformers import LlamaConfig
        >>> whole_numbers(LlamaConfig(hidden_size=64))["hidden_size"]
        64
    """
    return {
        joined(path, name): size
        for path, section in all_sections(config)
        for name, value in entries(section).items()
        if type(size := size_in(name, value)) is int
    }


def size_in(name: str, value: Any) -> Any:
    """The size of all layers, where a field that counts features or heads lists it layer by layer;
    else the value itself.

    Example:
        >>> size_in("intermediate_size", [64, 64]), size_in("layer_types", ["a", "a"])
        (64, ['a', 'a'])
    """
    listed = isinstance(value, (list, tuple)) and len(value) > 1 and all(entry == value[0] for entry in value)
    if listed and type(value[0]) is int and kind(name) not in ("kept", "unknown"):
        return value[0]
    return value


def takes_one(section: Any, name: str) -> bool:
    """Whether a field that lists a size for each layer may also be one number for all of them."""
    other = copy.copy(section)
    try:
        setattr(other, name, 1)
    except (*FOREIGN_ERRORS, StrictDataclassError):
        return False
    return True


def split(path: str) -> tuple[str, str]:
    """The section and the name in it.

    Example:
        >>> split("text_config.hidden_size"), split("hidden_size")
        (('text_config', 'hidden_size'), ('', 'hidden_size'))
    """
    section, _, name = path.rpartition(".")
    return section, name
