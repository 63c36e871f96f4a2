"""The config of a registered module: a dataclass, presented as a transformers config.

A registered module (`growth.hf.custom_modules`) keeps its settings in a plain dataclass. The rest
of the library reads a ``PreTrainedConfig``, so each dataclass gets a `ConfigWrapper` subclass that
has the same fields as attributes. `config_to_json` turns the dataclass into the fields of a
``config.json``, `ConfigWrapper.to_dataclass` turns the wrapper back into the dataclass:

    MyConfig(n_embd=20)  ->  {"n_embd": 20, ...}  ->  MyConfigWrapper  ->  MyConfig(n_embd=20)
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, ClassVar

from transformers import PreTrainedConfig

from growth.errors import UnsupportedModelError

RESERVED_FIELDS = frozenset(dir(PreTrainedConfig())) - {"model_type", "architectures"}
"""Attributes that every transformers config has already, so that no dataclass field may have their
name."""


class ConfigWrapper(PreTrainedConfig):
    """A transformers config with the fields of a dataclass. Each registered dataclass gets a
    subclass, made by `wrapper_of`."""

    dataclass_type: ClassVar[type]

    def __init__(self, **fields: Any) -> None:
        defaults = config_to_json(self.dataclass_type())
        computed = {field.name for field in dataclasses.fields(self.dataclass_type) if not field.init}
        super().__init__(**{name: value for name, value in fields.items() if name not in defaults.keys() | computed})
        # Set afterwards: transformers would treat fields such as max_length or top_k as settings of
        # generation and drop them from the config.
        for name, default in defaults.items():
            setattr(self, name, fields.get(name, default))

    def to_dataclass(self) -> Any:
        """The dataclass with these values; it computes its ``init=False`` fields itself."""
        fields = [field for field in dataclasses.fields(self.dataclass_type) if field.init]
        return self.dataclass_type(**{field.name: _from_json(field, getattr(self, field.name)) for field in fields})


def wrapper_of(config_class: type, model_type: str) -> type[ConfigWrapper]:
    """A new subclass of `ConfigWrapper` for a dataclass.

    Raises:
        UnsupportedModelError: for a field without a default, one with the name of a transformers
            attribute, or one whose default cannot be stored as JSON.
    """
    _check(config_class)
    members = {
        "model_type": model_type,
        "dataclass_type": config_class,
        # Repeated here because transformers makes every config class a dataclass, which generates
        # an __init__ for a class that does not define one in its own body.
        "__init__": ConfigWrapper.__init__,
    }
    return type(f"{config_class.__name__}Wrapper", (ConfigWrapper,), members)


def config_to_json(config: Any) -> dict[str, Any]:
    """The fields of a dataclass as JSON values, without those it computes (``init=False``).

    Raises:
        UnsupportedModelError: for a value that is not the same after a round trip through JSON.

    Example:
        >>> config_to_json(MyConfig(n_embd=20, betas=(0.9, 0.95)))
        {'n_embd': 20, 'betas': [0.9, 0.95]}
    """
    values: dict[str, Any] = {}
    for field in (field for field in dataclasses.fields(config) if field.init):
        value = getattr(config, field.name)
        try:
            written = json.loads(json.dumps(value))
        except (TypeError, ValueError):
            written = None
        read, values[field.name] = _from_json(field, written), written
        if type(read) is not type(value) or read != value:
            raise UnsupportedModelError(
                f"field '{field.name}' of {type(config).__name__} is {value!r}, which cannot be stored in config.json "
                "and read back unchanged. Use numbers, strings, lists and dictionaries of them, or give the field a "
                "tuple as its default."
            )
    return values


def _from_json(field: dataclasses.Field[Any], written: Any) -> Any:
    """A JSON value as the field's type: JSON has no tuples, so a list becomes one where the
    field's default is one."""
    return tuple(written) if isinstance(field.default, tuple) and isinstance(written, list) else written


def _check(config_class: type) -> None:
    name = config_class.__name__
    if reserved := sorted(RESERVED_FIELDS.intersection(field.name for field in dataclasses.fields(config_class))):
        raise UnsupportedModelError(
            f"{name} has a field '{reserved[0]}', a name that every transformers config uses already. Rename the "
            "field."
        )
    try:
        config_to_json(config_class())
    except TypeError as error:
        raise UnsupportedModelError(
            f"{name} has fields without a default ({error}), so a config.json that leaves one out could not be read. "
            "Give every field a default."
        ) from error
