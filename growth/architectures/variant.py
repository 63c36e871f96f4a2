"""What one model class of a family declares otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from growth.algebra.axes import Axis
from growth.rules.linear import Rule


@dataclass(frozen=True)
class Variant:
    """What one model class declares otherwise than its family.

    Args:
        modules: module pattern -> rule, for modules that only this class has, or uses otherwise.
        outputs: field of the model's output -> the axis it ranges over.
    """

    modules: Mapping[str, Rule] = field(default_factory=dict)
    outputs: Mapping[str, Axis] = field(default_factory=dict)
