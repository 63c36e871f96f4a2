"""Names of tensors, whichever layer they are in."""

from __future__ import annotations

import re

from growth.architectures.patterns import pattern_of


def starred(name: str) -> str:
    """A name with ``*`` for every number, as `pattern_of`, and for that of an expert whose name ends in it.

    Example:
        >>> starred("layers.3.mlp.experts.0.up"), starred("mlp.experts.expert_7.wi")
        ('layers.*.mlp.experts.*.up', 'mlp.experts.expert_*.wi')
    """
    return re.sub(r"(?<=\bexpert_)\d+(?=\.)", "*", pattern_of(name))
