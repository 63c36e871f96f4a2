"""The caller's choices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from growth.errors import IllegalGrowthError
from growth.law import Scaling
from growth.symmetry import Symmetry

LARGEST_WIDTH = 1024
KEEP: Literal["keep"] = "keep"


@dataclass(frozen=True)
class Options:
    """The caller's choices, as the plan and ``growth.json`` keep them. `growth.choices` makes them from keywords.

    Args:
        width: factor on features, more than 1 and at most 1024, whole or not; None where sizes are named instead.
        attention: what else grows by it: ``heads`` copies whole heads, ``head-dim`` widens each.
        rope: for rotary models with wider heads: ``slots`` or ``pairs`` (`growth.rules.rotary`).
        scaling: ``unit`` or ``orthogonal`` (`growth.law`).
        symmetry: ``none``, ``noise:R`` or ``split:A/B`` (`growth.symmetry`).
        seed: of noise and varied splits.
        lossy: accept a rotary growth that is not exact.
        vouch: config fields the caller vouches for.
        sizes: size -> its new value, or ``keep``. Sizes go by their standard name (``hidden_size``) or their config field (``n_embd``).
        like: likewise, the sizes of another model; those that this one does not have are passed over.

    Raises:
        IllegalGrowthError: for a value outside its range.
    """

    width: float | None = None
    attention: Literal["heads", "head-dim"] = "heads"
    rope: Literal["slots", "pairs"] = "slots"
    scaling: Scaling = "unit"
    symmetry: str = "none"
    seed: int = 0
    lossy: bool = False
    vouch: tuple[str, ...] = ()
    sizes: Mapping[str, int | str] = field(default_factory=dict)
    like: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "attention", str(self.attention).replace("_", "-"))
        object.__setattr__(self, "vouch", tuple(self.vouch))
        object.__setattr__(self, "symmetry", str(Symmetry.parse(self.symmetry)))
        if self.width is None and not self.sizes and not self.like:
            object.__setattr__(self, "width", 2)
        if self.width is not None:
            object.__setattr__(self, "width", _width(self.width))
        for name, size in self.sizes.items():
            if size != KEEP and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
                raise IllegalGrowthError(f"{name} must be a whole number, or 'keep' to stay as it is, not {size!r}.")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not -(2**63) <= self.seed < 2**64:
            raise IllegalGrowthError(f"seed must be a whole number of 64 bits, not {self.seed!r}. Use 0, for example.")
        for name, values in {"attention": ("heads", "head-dim"), "rope": ("slots", "pairs"), "scaling": ("unit", "orthogonal")}.items():
            if getattr(self, name) not in values:
                raise IllegalGrowthError(f"{name} must be {' or '.join(values)}, not {getattr(self, name)!r}.")

    @property
    def breaking(self) -> Symmetry:
        """How the symmetry of the copies is broken."""
        return Symmetry.parse(self.symmetry)


def _width(width: object) -> float:
    """A width in its range; whole ones as whole numbers."""
    if isinstance(width, bool) or not isinstance(width, (int, float)) or not (math.isfinite(width) and 1 < width <= LARGEST_WIDTH):
        raise IllegalGrowthError(
            f"width must be a number above 1 and at most {LARGEST_WIDTH}, not {width!r}. Use width 2 to double, 1.5 for half as much again."
        )
    return int(width) if width == int(width) else float(width)
