"""The caller's choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from growth.errors import IllegalGrowthError
from growth.law import Scaling

LARGEST_WIDTH = 1024
LARGEST_NOISE = 1
"""Beyond the weight's own size every noisy layer amplifies what rounding makes of the copies, and depth compounds it."""


@dataclass(frozen=True)
class Options:
    """The caller's choices.

    Args:
        width: whole factor, 2 to 1024, on hidden_size and intermediate_size, and on heads or head_dim.
        attention: ``heads`` copies whole heads, ``head-dim`` widens each.
        rope: for rotary models under ``head-dim``: ``slots`` or ``pairs`` (`growth.rules.rotary`).
        scaling: ``unit`` or ``orthogonal`` (`growth.law`).
        noise: null-space noise, RMS relative to each weight's RMS, at most 1.
        seed: of the noise.
        lossy: accept a rotary growth that is not exact.
        vouch: config fields the caller vouches for.

    Raises:
        IllegalGrowthError: for a value outside its range.
    """

    width: int = 2
    attention: Literal["heads", "head-dim"] = "heads"
    rope: Literal["slots", "pairs"] = "slots"
    scaling: Scaling = "unit"
    noise: float = 0.0
    seed: int = 0
    lossy: bool = False
    vouch: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "attention", str(self.attention).replace("_", "-"))
        object.__setattr__(self, "vouch", tuple(self.vouch))
        if isinstance(self.width, bool) or not isinstance(self.width, int) or not 2 <= self.width <= LARGEST_WIDTH:
            raise IllegalGrowthError(f"width must be a whole number from 2 to {LARGEST_WIDTH}, not {self.width!r}. Use width 2 to double.")
        if not (isinstance(self.noise, (int, float)) and 0 <= self.noise <= LARGEST_NOISE):
            raise IllegalGrowthError(
                f"noise must be a number from 0 to {LARGEST_NOISE}, not {self.noise!r}. 0.1 is a tenth of each weight's RMS."
            )
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not -(2**63) <= self.seed < 2**64:
            raise IllegalGrowthError(f"seed must be a whole number of 64 bits, not {self.seed!r}. Use 0, for example.")
        for name, values in {"attention": ("heads", "head-dim"), "rope": ("slots", "pairs"), "scaling": ("unit", "orthogonal")}.items():
            if getattr(self, name) not in values:
                raise IllegalGrowthError(f"{name} must be {' or '.join(values)}, not {getattr(self, name)!r}.")
