"""Reading and editing ``config.json`` as plain JSON, in the dialect it was written in.

transformers 4 and 5 spell rotary parameters and dtypes differently, and each ignores or
reinterprets the other's; so a config is never re-serialised, only the fields that change are
edited, and the result is parsed again to see that it says what was meant."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING

from growth import architectures
from growth.architectures.sizes import value_at
from growth.errors import CheckpointError, UnsupportedModelError
from growth.hf.configs import Config, Raw, parse


def read_json(path: Path) -> Any:
    """A JSON file, or a CheckpointError that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not readable JSON: {error}. Fetch the file again.") from error


def merged(raw: Mapping[str, Any]) -> Config:
    """The config with legacy overrides (``text_config_dict``) merged into the section they override
    (``text_config``). It parses to the same."""
    config = Config.of(raw)
    overrides = {
        name: config[f"{name}_dict"] for name in config.parsed.sub_configs if config.get(f"{name}_dict") is not None
    }
    if not overrides:
        return config
    result = copy.deepcopy(dict(config))
    for name, override in overrides.items():
        known, said = getattr(config.parsed, name).to_dict(), {**(result.get(name) or {}), **override}
        result[name] = {key: known.get(key, value) for key, value in said.items()}
        del result[f"{name}_dict"]
    return Config(result)


def edited(
    raw: Mapping[str, Any],
    changes: Mapping[str, Any],
    rope: Mapping[str, Mapping[str, Any]] | None = None,
    written: Collection[str] = (),
) -> Config:
    """The config with ``changes`` applied to the fields it writes. A field it leaves implied must
    follow from those; it is written down where it does not.

    Args:
        raw: the config.
        changes: config field -> value the parsed result must have; dotted inside a nested config.
        rope: kind of layer (or "" for all) -> new ``rope_parameters`` in the dialect of
            transformers 5.
        written: fields to write down even where ``raw`` leaves them null, so that they would
            follow.

    Example:
        >>> dict(edited({"model_type": "gpt2", "n_embd": 64, "n_inner": None}, {"n_embd": 128}))
        {'model_type': 'gpt2', 'n_embd': 128, 'n_inner': None}
    """
    config = merged(raw)
    result = copy.deepcopy(dict(config))
    for path, value in changes.items():
        target = section_at(result, path)
        target.update({key: value for key in spellings(config, path) if target.get(key) is not None})
        if rope and path.rpartition(".")[2] == "head_dim" and is_null(config.parsed, path):
            target["head_dim"] = value  # transformers takes scaled frequencies from the field, null or not
    for kind, parameters in (rope or {}).items():
        _write_rope(result, kind, parameters)
    new = Config(result)
    for path, value in changes.items():
        if path in written or value_at(new.parsed, path) not in (value, None):
            section_at(result, path).update(dict.fromkeys(spellings(config, path), value))
            new = Config(result)
    return new


def is_null(config: Any, path: str) -> bool:
    """Whether the class has this field and the config leaves it null."""
    part, _, name = path.rpartition(".")
    return (value_at(config, part) if part else config).to_dict().get(name, 0) is None


def spellings(raw: Mapping[str, Any], path: str) -> list[str]:
    """The keys that say a field, in its own section of ``raw``: its name, its aliases
    (``hidden_size`` for ``n_embd``), its old names (`growth.architectures.sizes.Size`), or, where
    none does, its name."""
    written, name = _section(raw, path), path.rpartition(".")[2]
    owner: Any = CONFIG_MAPPING[raw["model_type"]]
    for part in path.split(".")[:-1]:
        owner = owner.sub_configs[part]
    aliases = [alias for alias, target in owner.attribute_map.items() if target == name]
    sizes = architectures.find(raw["model_type"]).sizes.values() if raw["model_type"] in architectures.known() else ()
    old_names = [old for size in sizes if size.field == path for old in size.old_names]
    return [key for key in (name, *aliases, *old_names) if key in written] or [name]


def is_written(raw: Mapping[str, Any], path: str) -> bool:
    """Whether the config itself gives a field a value."""
    return any(_section(raw, path).get(key) is not None for key in spellings(raw, path))


def _section(raw: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """The nested object that holds the last part of a dotted path, empty where it is missing."""
    for part in path.split(".")[:-1]:
        raw = raw.get(part) or {}
    return raw


def section_at(raw: Raw, path: str) -> Raw:
    """The nested object that holds the last part of a dotted path; made where it is missing."""
    for part in path.split(".")[:-1]:
        if raw.get(part) is None:
            raw[part] = {}
        raw = raw[part]
    return raw


def rope_of(raw: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Kind of layer -> ``rope_parameters`` in the dialect of transformers 5, whichever the config
    is written in; "" where all layers share them."""
    parameters = getattr(parse(raw), "rope_parameters", None) or {}
    if parameters and all(isinstance(value, Mapping) for value in parameters.values()):
        return {kind: dict(value) for kind, value in parameters.items()}
    if not isinstance(parameters.get("rope_type", ""), str) or any(
        isinstance(value, Mapping) for value in parameters.values()
    ):
        raise UnsupportedModelError(
            "the config has rotary parameters this version cannot read. Check rope_parameters in config.json."
        )
    return {"": dict(parameters)}


def _write_rope(raw: Raw, kind: str, rope: Mapping[str, Any]) -> None:
    """In place, in the dialect at hand: ``rope_parameters`` (5) or ``rope_theta`` beside
    ``rope_scaling`` (4)."""
    if kind:
        parameters = getattr(parse(raw), "rope_parameters", None) or {}
        raw["rope_parameters"] = {**parameters, kind: dict(rope)}
        raw.pop("rope_scaling", None)  # said by rope_parameters now, and would be laid over them again
    elif "rope_parameters" in raw:
        raw["rope_parameters"] = dict(rope)
    else:
        raw["rope_scaling"] = {key: value for key, value in rope.items() if key != "rope_theta"}
