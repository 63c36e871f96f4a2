"""Which sizes a caller can choose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from growth.architectures.sizes import Size, value_at


def choosable_sizes(table: Mapping[str, Size], config: Any) -> dict[str, Size]:
    """The sizes that a caller can choose: those with a field in the config.

    A head_dim for which the config has no field can be chosen all the same, since hidden_size = heads
    * head_dim then goes along; key/value heads for which it has none are always the heads.

    Example:
        >>> table = {"hidden_size": Size("d_model"), "queries_per_kv": Size(follows=lambda config, sizes: 1)}
        >>> list(choosable_sizes(table, None))
        ['hidden_size']
    """
    return {
        name: size
        for name, size in table.items()
        if size.field
        and size.grows != "follows"
        and (size.follows is None or size.grows == "head-dim" or has_field(config, size))
    }


def has_field(config: Any, size: Size) -> bool:
    """Whether the config's class has a field for a size, so that it need not follow from others."""
    section, _, name = size.field.rpartition(".")
    return bool(name) and (value_at(config, size.field) is not None or name in value_at(config, section).to_dict())
