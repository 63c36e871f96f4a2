"""A miniature that is yet to be built and run, and how it may grow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from growth.architectures.architecture import Architecture
from growth.architectures.sizes import Size
from growth.hf.configs import Config
from growth.infer.counts import SmallCounts
from growth.infer.trial import MOST_PARAMETERS


@dataclass(frozen=True)
class Draft:
    """A miniature that is yet to be built and run, and how it may grow.

    Args:
        small: its config.
        architecture: a declaration that has sizes and nothing else, under which
            `growth.proof.miniature.miniature` makes ``small``.
        growths: what to try: path of a config field -> by what it is multiplied. Those with the most
            different factors come first: they tell sizes apart best.
        kept: paths of the whole numbers that may not move when others are multiplied.
        most: parameters that a miniature may have.
    """

    small: Config
    architecture: Architecture
    growths: Sequence[Mapping[str, int]]
    kept: Collection[str] = ()
    most: int = MOST_PARAMETERS


Attempt = Callable[[], Draft]
"""Makes a draft; raises whatever transformers does, for sizes that a config does not take."""


def skeleton(config: Mapping[str, Any], sizes: Mapping[str, Size], counts: SmallCounts | None = None) -> Architecture:
    """A declaration that has sizes and nothing else, for `growth.proof.miniature.miniature`.

    Args:
        config: of the model.
        sizes: with their small values.
        counts: what else is small.

    Example:
        >>> from growth.proof.miniature import miniature
        >>> config = {"model_type": "llama", "num_hidden_layers": 32}
        >>> miniature(config, skeleton(config, {"hidden_size": Size("hidden_size", small=96)}))["hidden_size"]
        96
    """
    return Architecture(str(config["model_type"]), modules={}, laws={}, sizes=sizes, twin=counts or SmallCounts())
