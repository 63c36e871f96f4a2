"""Widths that a config lists, one for each stage of a tower or each kind of block."""

from __future__ import annotations

from collections.abc import Mapping

from transformers import PreTrainedConfig

from growth.architectures.sections import joined
from growth.hf.nested import plain_fields
from growth.infer.readings import Reading
from growth.infer.size_fields import EXPERT, FEED_FORWARD
from growth.infer.small_sizes import counts_up, divided, shrinking_factor
from growth.infer.towers import section_kinds


def list_sizes(sections: Mapping[str, PreTrainedConfig], reading: Reading) -> dict[str, list[int]]:
    """Widths that a config lists, one for each stage of a tower or each kind of block, as they are in
    the miniature. They stay.

    Args:
        sections: from `nested_sections`.
        reading: whether towers that stay are made small.

    Example:
        >>> from types import SimpleNamespace
        >>> stages = {"vision_config": SimpleNamespace(hidden_sizes=[64, 128], num_heads=[4, 8], depths=[3, 9])}
        >>> list_sizes({"": SimpleNamespace(vocab_size=9, hidden_size=8), **stages}, Reading())
        {'vision_config.hidden_sizes': [32, 64], 'vision_config.num_heads': [2, 4], 'vision_config.depths': [2, 2]}
    """
    kinds = section_kinds(sections)
    factor = shrinking_factor(plain_fields(s) for path, s in sections.items() if kinds[path] != "text")
    found: dict[str, list[int]] = {}
    for path, section in sections.items():
        for name, value in plain_fields(section).items():
            if not (isinstance(value, list) and value and all(counts_up(entry) for entry in value)):
                continue
            if kinds[path] == "text" and name in (*FEED_FORWARD, *EXPERT):
                found[joined(path, name)] = [34 + 8 * at for at in range(len(value))]
            elif kinds[path] != "text" and reading.shrink and name in STAGED:
                found[joined(path, name)] = [divided(entry, factor) for entry in value]
            elif kinds[path] != "text" and name == "depths":
                found[joined(path, name)] = [min(entry, 2) for entry in value]
    return found


STAGED = (
    "embed_dim",
    "embed_dims",
    "hidden_sizes",
    "num_heads",
    "num_attention_heads",
    "num_groups",
    "downsample_channels",
)
"""Names of lists with a width or a number of heads for each stage."""
