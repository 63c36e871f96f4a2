"""Config objects of any kind: a dataclass, a namespace, a mapping, or an object with plain
attributes, read and changed field by field.

`config_fields` gives the fields that JSON can hold; `changed` makes an object of the same kind with
other values. What JSON cannot hold (a function, a dtype) stays as it is. A config inside a config is a
section, whose fields are read and changed too, at any depth.

    GPTConfig(n_embd=20, act=nn.GELU)  ->  {"n_embd": 20}  ->  GPTConfig(n_embd=40, act=nn.GELU)
"""

from __future__ import annotations

import copy
import dataclasses
import json
from argparse import Namespace
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from transformers import PreTrainedConfig

from growth.errors import FOREIGN_ERRORS, UnsupportedModelError, shown
from growth.hf.custom_configs import RESERVED_FIELDS, ConfigWrapper

COUNTS_OF_INPUTS = frozenset(
    {
        "vocab_size",
        "max_position_embeddings",
        "image_size",
        "patch_size",
        "encoder_stride",
        "num_mel_bins",
        "max_source_positions",
        "max_target_positions",
    }
)
"""Fields that inputs must fit: a miniature keeps them where the caller gives the inputs."""


def all_fields(config: Any) -> dict[str, Any]:
    """Field -> value of a config object, whatever the values are.

    Raises:
        UnsupportedModelError: for an object that has no fields.
    """
    if isinstance(config, Mapping):
        return {name: value for name, value in config.items() if isinstance(name, str)}
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        declared = {field.name: getattr(config, field.name) for field in dataclasses.fields(config) if field.init}
        return {**declared, **(_attributes(config) if not _is_frozen(config) else {})}
    if _is_named_tuple(config):
        return dict(config._asdict())
    if isinstance(config, type) or not hasattr(config, "__dict__"):
        raise UnsupportedModelError(
            f"a config must be a dataclass, a namespace, a dictionary or an object with plain attributes, not "
            f"{shown(config)}, which has no fields by name. Give one: growth.widen(module, config=...)."
        )
    return _attributes(config)


def _attributes(config: Any) -> dict[str, Any]:
    """What lies in an object itself; a dataclass computes some of it (``init=False``)."""
    computed: set[str] = set()
    if dataclasses.is_dataclass(config):
        computed = {field.name for field in dataclasses.fields(config) if not field.init}
    return {name: value for name, value in vars(config).items() if not name.startswith("_") and name not in computed}


def config_fields(config: Any) -> dict[str, Any]:
    """Field -> JSON value, of the fields that JSON can hold and that no transformers config has
    already (``dtype``). A section is the dictionary of its fields.

    Example:
        >>> config_fields(SimpleNamespace(dim=20, betas=(0.9, 0.95), act=torch.relu, dtype="float32"))
        {'dim': 20, 'betas': [0.9, 0.95]}
    """
    found = {}
    for name, value in all_fields(config).items():
        if name in RESERVED_FIELDS or name.startswith("_") or name in _WRAPPERS_OWN:
            continue
        value = value.item() if isinstance(value, np.generic) else value
        if is_section(value) and not isinstance(config, PreTrainedConfig):
            found[name] = config_fields(value)
            continue
        try:
            written = json.loads(json.dumps(value))
        except (TypeError, ValueError, RecursionError):
            continue
        if written == (list(value) if isinstance(value, tuple) else value):
            found[name] = written
    return found


def is_section(value: Any) -> bool:
    """Whether a value of a config is a config itself: a dataclass, a namespace or a mapping by names.

    Example:
        >>> is_section({"width": 3}), is_section({0: "negative"}), is_section([1, 2])
        (True, False, False)
    """
    if isinstance(value, Mapping):
        return bool(value) and all(isinstance(name, str) and name.isidentifier() for name in value)
    if isinstance(value, (type, PreTrainedConfig)):
        return False
    return dataclasses.is_dataclass(value) or isinstance(value, (SimpleNamespace, Namespace))


def changed(config: Any, changes: Mapping[str, Any]) -> Any:
    """A copy of a config object with other values in some fields; the object itself stays.

    A dataclass is made anew, so that it computes what it computes.

    Args:
        config: the object.
        changes: field -> JSON value, of a section a dictionary of those that change. A list becomes a
            tuple where the old value is one.

    Raises:
        UnsupportedModelError: if the object does not take the values.
    """
    held = all_fields(config)
    values = {
        name: changed(old, value)
        if isinstance(value, Mapping)
        and is_section(old := held.get(name))
        and not isinstance(config, PreTrainedConfig)
        else tuple(value)
        if isinstance(held.get(name), tuple)
        else value
        for name, value in changes.items()
    }
    try:
        if isinstance(config, Mapping):
            return _mapping(config, values)
        if _is_named_tuple(config):
            return config._replace(**values)
        if dataclasses.is_dataclass(config) and not isinstance(config, type):
            fields = {field.name for field in dataclasses.fields(config) if field.init}
            new = dataclasses.replace(_copied(config), **{name: values[name] for name in values.keys() & fields})
            extra = {name: value for name, value in held.items() if name not in fields}
            return _with_attributes(new, {**extra, **{name: values[name] for name in values.keys() - fields}})
        return _with_attributes(_copied(config), values)
    except FOREIGN_ERRORS as error:
        raise UnsupportedModelError(
            f"the config, a {type(config).__name__}, does not take "
            f"{', '.join(f'{name}={value!r}' for name, value in values.items())} ({type(error).__name__}: "
            f"{str(error)[:200]}). Give one whose fields can be changed: config=..., with build=... to match."
        ) from error


def _mapping(config: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    new = _copied(config)
    for name, value in values.items():
        new[name] = value
    return new


def _with_attributes(config: Any, values: Mapping[str, Any]) -> Any:
    for name, value in values.items():
        setattr(config, name, value)
    return config


def _copied(config: Any) -> Any:
    """A deep copy, or a shallow one where there is no deep one; of a mapping that cannot be changed a
    dictionary."""
    if isinstance(config, Mapping) and not hasattr(config, "__setitem__"):
        config = dict(config)
    try:
        return copy.deepcopy(config)
    except FOREIGN_ERRORS:
        return copy.copy(config)


def _is_named_tuple(config: Any) -> bool:
    return isinstance(config, tuple) and isinstance(getattr(config, "_fields", None), tuple)


def _is_frozen(config: Any) -> bool:
    return bool(type(config).__dataclass_params__.frozen)


class OwnConfigWrapper(ConfigWrapper):
    """A transformers config with the fields of the caller's config object. Each object gets a
    subclass, made by `own_wrapper_of`: its fields are the subclass's defaults, so that whatever was
    found of the module holds for them."""

    original: ClassVar[Any]
    """The caller's object."""

    kept_counts: ClassVar[frozenset[str]] = frozenset()
    """Fields that a miniature keeps."""

    def __init__(self, **fields: Any) -> None:
        own = config_fields(self.original)
        PreTrainedConfig.__init__(self, **{name: value for name, value in fields.items() if name not in own})
        for name, value in own.items():
            given = fields.get(name, value)
            if name in self.sub_configs and isinstance(given, Mapping):
                given = self.sub_configs[name](**given)
            setattr(self, name, given)

    def get_text_config(self, *args: Any, **kwargs: Any) -> Any:
        """The config itself: a section that is called ``decoder`` is not known to be one of text."""
        return self

    def to_own(self) -> Any:
        """A config object of the caller's kind with these values."""
        return changed(self.original, self._changes())

    def _changes(self) -> dict[str, Any]:
        """Field -> value where it is not the original's; of sections what changed in them."""
        own = config_fields(self.original)
        inner = {name: getattr(self, name)._changes() for name in self.sub_configs}
        plain = {name: getattr(self, name) for name in own if name not in inner and getattr(self, name) != own[name]}
        return {**plain, **{name: values for name, values in inner.items() if values}}

    def to_dataclass(self) -> Any:
        return self.to_own()


_WRAPPERS_OWN = frozenset(dir(OwnConfigWrapper)) | {*OwnConfigWrapper.__annotations__, "dataclass_type"}
"""Names that a wrapper has for itself."""


def own_wrapper_of(config: Any, model_type: str, kept_counts: frozenset[str]) -> type[OwnConfigWrapper]:
    """A new subclass of `OwnConfigWrapper` for a config object, of which it keeps a copy; and one for
    every section of it."""
    sections = {
        name: own_wrapper_of(value, f"{model_type}.{name}", kept_counts)
        for name, value in all_fields(config).items()
        if name in config_fields(config) and is_section(value) and not isinstance(config, PreTrainedConfig)
    }
    members = {
        "model_type": model_type,
        "original": _copied(config),
        "kept_counts": kept_counts,
        "sub_configs": sections,
        "__init__": OwnConfigWrapper.__init__,  # as in `growth.hf.custom_configs.wrapper_of`
    }
    return type(f"{type(config).__name__}Wrapper", (OwnConfigWrapper,), members)
