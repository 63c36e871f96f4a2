"""Where a config contradicts itself: two fields that the model's code needs to be equal, and that are
not. The defaults of many config classes of several towers do not fit each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from growth.architectures.sizes import Size, size_at


def contradiction(sizes: Mapping[str, Size], ratios: Mapping[str, int], config: Any) -> str | None:
    """Which fields of a config say one width otherwise.

    Args:
        sizes: of the model. Fields that have the same value in a miniature, and grow alike, are one
            width there: what a tower hands to the text is as wide as the text.
        ratios: path of a field -> by what it is multiplied.
        config: the user's, parsed.

    Returns:
        A sentence; None if there are none.

    Example:
        >>> from types import SimpleNamespace
        >>> sizes = {name: Size(name, small=36) for name in ("out_size", "hidden_size")}
        >>> config = SimpleNamespace(out_size=3584, hidden_size=4096)
        >>> contradiction(sizes, {"out_size": 2, "hidden_size": 2}, config)
        'out_size is 3584 and hidden_size 4096, which this model adds up: check config.json'
    """
    widths: dict[tuple[Any, int], dict[int, str]] = {}
    for size in sizes.values():
        value = size_at(config, size.field) if size.field in ratios and size.grows == "width" else None
        if type(value) is int:
            widths.setdefault((size.small, ratios[size.field]), {}).setdefault(value, size.field)
    for values in widths.values():
        if len(values) > 1:
            (first, one), *others = values.items()
            rest = " and ".join(f"{path} {value}" for value, path in others)
            return f"{one} is {first} and {rest}, which this model adds up: check config.json"
    return None
