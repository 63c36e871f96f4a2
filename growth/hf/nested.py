"""The configs in a config, at any depth: a model of text and images has one for each tower, and a
tower may have its own parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedConfig


def nested_sections(config: Any) -> dict[str, Any]:
    """Path -> section: the config itself under "", then every config in it, outer ones first.

    Args:
        config: a parsed config.

    Example:
        >>> from transformers import LlavaConfig
        >>> list(nested_sections(LlavaConfig()))
        ['', 'text_config', 'vision_config']
    """
    return dict(sorted(_walk(config, ""), key=lambda found: (found[0].count("."), found[0])))


def _walk(config: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, config
    for name, value in _inner(config).items():
        yield from _walk(value, f"{path}.{name}" if path else name)


def _inner(section: Any) -> dict[str, PreTrainedConfig]:
    """The configs directly in a section."""
    fields = section if isinstance(section, dict) else vars(section)
    return {name: value for name, value in fields.items() if isinstance(value, PreTrainedConfig)}


def plain_fields(section: Any) -> dict[str, Any]:
    """The fields of one section, without the configs in it. A field whose value differs by layer has
    the one that most layers share.

    Args:
        section: a config of transformers, or of another library: a dataclass, a namespace or a
            mapping.

    Example:
        >>> from transformers import LlavaConfig
        >>> plain_fields(LlavaConfig())["vision_feature_layer"]
        -2
    """
    if not isinstance(section, PreTrainedConfig):
        return dict(section) if isinstance(section, dict) else dict(vars(section))
    inner = _inner(section)
    return {name: value for name, value in section.to_dict().items() if name not in inner}
