"""Another model, whose sizes a growth is to reach, as a value.

Importing this takes no torch: ``grow --help`` is to be quick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class OtherModel:
    """Another model.

    Args:
        sizes: size name or config field -> value.
        config: its config; empty where only sizes are known.

    Example:
        >>> OtherModel({"hidden_size": 96}).to_json(), bool(OtherModel())
        ({'hidden_size': 96}, False)
    """

    sizes: Mapping[str, int] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model_type(self) -> str:
        """Of its config; empty where only sizes are known."""
        return str(self.config.get("model_type", ""))

    def __bool__(self) -> bool:
        return bool(self.sizes or self.config)

    def to_json(self) -> dict[str, Any]:
        """What ``like=`` can be given to mean the same model."""
        return dict(self.config or self.sizes)
