"""Reading and editing ``config.json`` as plain JSON, in the dialect it was written in.

transformers 4 and 5 write some fields differently, and each ignores or misreads the other's form
(`growth.hf.rope_dialects`). A config is therefore not serialised from its parsed form. Only the
fields that change are edited, and the result is parsed again to check that it has the intended
values."""

from __future__ import annotations

import copy
import json
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING

from growth import architectures
from growth.architectures.registry import is_declared
from growth.architectures.sizes import size_at, value_at
from growth.errors import CheckpointError
from growth.hf.configs import Config, Raw
from growth.hf.rope_dialects import write_rope

LARGEST_FILE = 2**28
"""In bytes; the indices of the largest models have a hundredth of it."""

DEEPEST = 50
"""A config is copied and compared by functions that call themselves at each level."""


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        CheckpointError: if it cannot be read or is not JSON.
    """
    try:
        if not stat.S_ISREG((found := path.stat()).st_mode):
            raise ValueError("it is no file")  # a device or a pipe has no end, or none that comes
        if found.st_size > LARGEST_FILE:
            raise ValueError(f"it has more than {LARGEST_FILE:,} bytes")
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_repeats)
        if _is_deeper(content, DEEPEST):
            raise ValueError(f"it is nested more than {DEEPEST} deep")
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not readable JSON: {error}. Fetch the file again.") from error
    return content


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Of a key that stands twice, parsers take whichever they like."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the key {twice!r} twice")
    return found


def _is_deeper(value: Any, depth: int) -> bool:
    """Whether objects and lists lie in each other more than ``depth`` times."""
    level = [value]
    for _ in range(depth + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(level)


def merged(raw: Mapping[str, Any]) -> Config:
    """The config with legacy overrides (``text_config_dict``) merged into the section they override
    (``text_config``). Its parsed form is the same."""
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
        changes: config field (dotted inside a nested config) -> the value that the parsed result
            must have.
        rope: kind of layer ("" for all) -> new ``rope_parameters``, in the dialect of
            transformers 5.
        written: fields to write even if ``raw`` leaves them null or out.

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
    if rope:
        write_rope(result, config, rope)
    new = Config(result)
    for path, value in changes.items():
        if path in written or _parsed_value(new, path, value) not in (value, None):
            section_at(result, path).update(dict.fromkeys(spellings(config, path), value))
            new = Config(result)
    return new


def _parsed_value(config: Config, path: str, wanted: Any) -> Any:
    """What a field of a config was parsed to; where a whole number is wanted of a field that lists one
    for each layer, the one that all are."""
    return (size_at if type(wanted) is int else value_at)(config.parsed, path)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """The fields in which two configs differ, nested configs field by field.

    Returns:
        Field -> (old, new value), None where it is absent.

    Example:
        >>> differences({"a": 1, "text_config": {"b": 2, "c": 3}}, {"text_config": {"b": 4, "c": 3}})
        {'a': (1, None), 'text_config.b': (2, 4)}
    """
    found: dict[str, tuple[Any, Any]] = {}
    for name in sorted(set(old) | set(new)):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping) and _is_config(name, before):
            found |= differences(before, after, f"{prefix}{name}.")
        elif before is not after and before != after:  # NaN, copied, is itself
            found[prefix + name] = before, after
    return found


def _is_config(name: str, value: Mapping[str, Any]) -> bool:
    return name.endswith("_config") or "model_type" in value


def is_null(config: Any, path: str) -> bool:
    """Whether a parsed config has this field at the value null."""
    part, _, name = path.rpartition(".")
    return value_at(config, part).to_dict().get(name, 0) is None


def spellings(raw: Mapping[str, Any], path: str) -> list[str]:
    """The keys under which a config has a field; its name if it does not have it.

    A field may be written under its name, an alias (``hidden_size`` for ``n_embd``) or an old name
    (`growth.architectures.sizes.Size`).

    Args:
        raw: the config.
        path: the field, dotted inside a nested config. The keys are those of its own section.

    Example:
        >>> spellings({"model_type": "gpt2", "hidden_size": 64}, "n_embd")
        ['hidden_size']
    """
    written, name = _section(raw, path), path.rpartition(".")[2]
    owner: Any = CONFIG_MAPPING[raw["model_type"]]
    if (section := path.rpartition(".")[0]) and (nested := value_at(Config.of(raw).parsed, section)) is not None:
        owner = type(nested)  # sub_configs may leave the class open, which the config's own model_type decides
    aliases = [alias for alias, target in owner.attribute_map.items() if target == name]
    sizes = architectures.find(raw["model_type"]).sizes.values() if is_declared(raw["model_type"]) else ()
    old_names = [old for size in sizes if size.field == path for old in size.old_names]
    return [key for key in (name, *aliases, *old_names) if key in written] or [name]


def is_written(raw: Mapping[str, Any], path: str) -> bool:
    """Whether a config, as JSON, has a field at a value that is not null."""
    return any(_section(raw, path).get(key) is not None for key in spellings(raw, path))


def _section(raw: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """The nested object that holds the last part of a dotted path, empty where it is missing."""
    for part in path.split(".")[:-1]:
        raw = raw.get(part) or {}
    return raw


def section_at(raw: Raw, path: str) -> Raw:
    """The nested object that holds the last part of a dotted path; created where it is missing."""
    for part in path.split(".")[:-1]:
        if raw.get(part) is None:
            raw[part] = {}
        raw = raw[part]
    return raw
