"""Configs in a config: the sections of one for several towers, and the paths of their fields."""

from __future__ import annotations

from typing import Any

from growth.architectures.sizes import value_at


def sections(config: Any) -> list[str]:
    """The config itself and the configs nested in it, by their paths (`value_at`).

    Example:
        >>> from transformers import CLIPConfig
        >>> sorted(sections(CLIPConfig()))
        ['', 'text_config', 'vision_config']
    """
    return ["", *(name for name in config.sub_configs if value_at(config, name) is not None)]


def joined(section: str, name: str) -> str:
    """The path of a field of a section.

    Example:
        >>> joined("", "hidden_size"), joined("text_config", "hidden_size")
        ('hidden_size', 'text_config.hidden_size')
    """
    return f"{section}.{name}" if section else name
