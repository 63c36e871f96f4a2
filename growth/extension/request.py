"""What a caller asks a model to have more of, at unchanged widths.

Importing this takes no torch: ``grow --help`` is to be quick."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from growth.extension.placement import Insert

_COUNTS = re.compile(r"layers?$|^depth$|^n_?blocks?$|_depth$")
"""How the config fields end that count layers."""


def counts_layers(name: str) -> bool:
    """Whether a size, or a config field, is a number of layers by its name.

    Example:
        >>> counts_layers("decoder.num_hidden_layers"), counts_layers("n_layer"), counts_layers("hidden_size")
        (True, True, False)
    """
    return _COUNTS.search(name) is not None


@dataclass(frozen=True)
class Request:
    """What a model is to have more of.

    Args:
        sizes: name -> its new value, or ``keep``. Of these, `extend` takes the numbers of layers.
        insert: where new layers go.
        silent: whether new layers add nothing at first.
        untie: whether the head gets a matrix of its own.
    """

    sizes: Mapping[str, int | str] = field(default_factory=dict)
    insert: Insert = field(default_factory=Insert)
    silent: bool = True
    untie: bool = False

    @property
    def for_widening(self) -> dict[str, int | str]:
        """The sizes that are left, to be widened to."""
        return {name: size for name, size in self.sizes.items() if not counts_layers(name)}
