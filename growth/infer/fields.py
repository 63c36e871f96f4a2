"""The whole numbers in a config, those of nested configs too, by their dotted paths."""

from __future__ import annotations

import copy
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from growth.architectures.sections import joined
from growth.errors import FOREIGN_ERRORS
from growth.hf.nested import nested_sections, plain_fields
from growth.infer.meanings import kind


def whole_numbers(config: Any) -> dict[str, int]:
    """Path -> value of every field that is a whole number.

    Example:
        >>> from transformers import LlamaConfig
        >>> whole_numbers(LlamaConfig(hidden_size=64))["hidden_size"]
        64
    """
    return {
        joined(path, name): size
        for path, section in nested_sections(config).items()
        for name, value in plain_fields(section).items()
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
    """Whether a field that lists a size for each layer may also be one number for all of them.

    Example:
        >>> from transformers import LlamaConfig
        >>> takes_one(LlamaConfig(), "intermediate_size")
        True
    """
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
