"""Two configs of one class, field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from transformers import PreTrainedConfig

from growth.architectures.sizes import value_at


def fields_of(parsed: PreTrainedConfig, prefix: str = "") -> dict[str, Any]:
    """The fields of a parsed config by their path, those of nested configs dotted.

    Example:
        >>> fields_of(CLIPConfig())["text_config.hidden_size"]
        512
    """
    return dict(_fields(parsed, prefix))


def _fields(parsed: PreTrainedConfig, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in parsed.to_dict().items():
        section = value_at(parsed, name) if name in parsed.sub_configs else None
        if isinstance(section, PreTrainedConfig):
            yield from _fields(section, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def alike(one: Any, other: Any) -> bool:
    """Whether two values of a field mean the same. A file may have kept a number in float32, and
    some leave out what others write as false or null.

    Example:
        >>> alike(1e-05, 9.999999747378752e-06), alike(None, False), alike(10000, 500000.0)
        (True, True, False)
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return all(alike(one.get(name), other.get(name)) for name in {*one, *other})
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if type(one) in (int, float) and type(other) in (int, float):
        return one == other or bool(np.float32(one) == np.float32(other))
    return one == other or (not one and not other and type(one) is not int and type(other) is not int)
