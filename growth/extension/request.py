"""What a caller asks a model to have more of, at unchanged widths.

Importing this takes no torch: ``grow --help`` is to be quick."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from growth.extension.placement import Insert

LAYERS = "num_hidden_layers"
"""The standard name of a number of layers."""

_COUNTS = re.compile(r"layers?$|^depth$|^n_?blocks?$|_depth$")
"""How the config fields end that count layers."""

EXPERTS, CHOSEN, EXPERT_SIZE = "num_experts", "num_experts_per_tok", "expert_size"
"""The standard names of the number of experts, of those that a token takes, and of their size."""
_EXPERTS = re.compile(r"(^|[._])(n|num)_(local_|routed_)?experts$")
_CHOSEN = re.compile(r"(^|[._])experts_per_tok(en)?$")


def counts_experts(name: str) -> bool:
    """Whether a size, or a config field, is a number of experts by its name.

    Example:
        >>> [counts_experts(name) for name in ("num_local_experts", "n_routed_experts", "n_shared_experts")]
        [True, True, False]
    """
    return _EXPERTS.search(name) is not None


def counts_chosen(name: str) -> bool:
    """Whether a size, or a config field, is the number of experts that a token takes."""
    return _CHOSEN.search(name) is not None


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
        sizes: name -> its new value, or ``keep``. Of these, `extend` takes the numbers of layers, and
            what widening cannot reach of the others.
        insert: where new layers go.
        silent: whether new layers add nothing at first.
        untie: whether the head gets a matrix of its own.
        like: the sizes of another model, which hold where ``sizes`` does not say otherwise.
        width: the factor by which features are to become more; None where sizes say it.
        noise, seed: of copies that are to differ.
        more_heads: whether heads become more with the features, if they are not named.
        per_layer: path of a config field -> what it is to list for each layer; by default what the
            layers had that are copied.
    """

    sizes: Mapping[str, int | str] = field(default_factory=dict)
    insert: Insert = field(default_factory=Insert)
    silent: bool = True
    untie: bool = False
    like: Mapping[str, int] = field(default_factory=dict)
    width: float | None = None
    more_heads: bool = True
    noise: float = 0.0
    seed: int = 0
    per_layer: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def for_widening(self) -> dict[str, int | str]:
        """The sizes that are left, to be widened to."""
        return {
            name: size
            for name, size in self.sizes.items()
            if not (counts_layers(name) or counts_experts(name) or counts_chosen(name))
        }
