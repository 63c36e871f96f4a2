"""The configs in a config, at any depth: a model of text and images has one for each tower, and a
tower may have its own parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedConfig


def nested_sections(config: PreTrainedConfig) -> dict[str, PreTrainedConfig]:
    """Path -> section: the config itself under "", then every config in it, outer ones first.

    Args:
        config: a parsed config.

    Example:
        >>> from transformers import LlavaConfig
        >>> list(nested_sections(LlavaConfig()))
        ['', 'text_config', 'vision_config']
    """
    return dict(sorted(_walk(config, ""), key=lambda found: (found[0].count("."), found[0])))


def _walk(config: PreTrainedConfig, path: str) -> Iterator[tuple[str, PreTrainedConfig]]:
    yield path, config
    for name, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            yield from _walk(value, f"{path}.{name}" if path else name)


def plain_fields(section: PreTrainedConfig) -> dict[str, Any]:
    """The fields of one section, without the configs in it.

    Example:
        >>> from transformers import LlavaConfig
        >>> plain_fields(LlavaConfig())["vision_feature_layer"]
        -2
    """
    inner = {name for name, value in vars(section).items() if isinstance(value, PreTrainedConfig)}
    return {name: value for name, value in section.to_dict().items() if name not in inner}
