"""How much noise a model of some depth takes.

Noise cancels over copies that are equal. In floating point the copies of an activation differ by
rounding, and a layer with noise of R times its weights reads R times that difference. What it adds
to the residual stream differs between copies in turn, so the differences grow from layer to layer,
by a factor that depends on R squared times the number of layers. Up to R = 1 that is little at any
depth that is in use. Beyond, it sets in sharply. Measured on trained models, as the mean difference of
outputs over what rounding does to the small model itself:

====================  ======  =======  =======  =======
model                 layers  noise 1  noise 2  noise 4
====================  ======  =======  =======  =======
MiniLM, float32            6      1.3      1.6      2.5
SmolLM2-135M, float32     30      1.2      1.8
SmolLM2-135M, bf16        30      1.1      1.2       13
====================  ======  =======  =======  =======

The limit keeps R squared times the layers at most `LARGEST`: 2 at 30 layers, 4 at 7. It is the same
in every dtype, since both sides of the ratio scale with the dtype's eps.

Between 31 and 120 layers the limit is that rule, not a measurement.

``symmetry="auto"`` takes `USUAL`, or what the depth leaves of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from growth.errors import IllegalGrowthError
from growth.plan.symmetry import LARGEST_NOISE, Symmetry

LARGEST = 120.0

USUAL = 2.0
"""Noise of 2 ended lower than 1 by 0.006 +- 0.003 nats per byte, and 3 no lower than 2 (docs/payoff.md)."""

_NUMBERED = re.compile(r"((?:.*?\.)??)([^.]*)\.(\d+)\.")


def layers_of(names: Iterable[str], config: Mapping[str, Any]) -> int:
    """The number of layers that an input passes through: of all stacks, by the names of tensors, or what the config
    says where layers share their weights; at least 1.

    Lists that stand beside each other, as XLM keeps the parts of its layers, are one stack.

    Args:
        names: of the model's tensors.
        config: of the model.

    Example:
        >>> layers_of(["layers.0.mlp.up.weight", "layers.1.mlp.up.weight"], {})
        2
        >>> layers_of(["xlm.attentions.0.q.weight", "xlm.ffns.0.lin1.weight"], {})
        1
    """
    stacks: dict[str, dict[str, int]] = {}
    for match in filter(None, map(_NUMBERED.match, names)):
        lists = stacks.setdefault(match[1], {})
        lists[match[2]] = max(lists.get(match[2], 0), int(match[3]) + 1)
    said = (config.get(name) for name in ("num_hidden_layers", "n_layers", "num_layers"))
    return max(
        1, sum(max(lists.values()) for lists in stacks.values()), *(count for count in said if isinstance(count, int))
    )


def largest_noise(layers: int) -> float:
    """The most noise that a model of so many layers takes, to two digits; at least 1.

    Example:
        >>> largest_noise(30), largest_noise(2), largest_noise(200)
        (2.0, 7.7, 1.0)
    """
    most = math.floor(10 * math.sqrt(LARGEST / layers)) / 10
    return float(min(max(1.0, most), LARGEST_NOISE))


def automatic_noise(layers: int) -> float:
    """The noise of ``symmetry="auto"`` in so many layers.

    Example:
        >>> automatic_noise(12), automatic_noise(30), automatic_noise(80), automatic_noise(126)
        (2.0, 2.0, 1.2, 1.0)
    """
    return min(USUAL, largest_noise(layers))


def check_noise_at_depth(symmetry: Symmetry, layers: int) -> None:
    """Refuse noise that the depth of a model would magnify.

    Args:
        symmetry: the caller's.
        layers: of the grown model.

    Raises:
        IllegalGrowthError: saying how much it takes.
    """
    if symmetry.noise > 1 and symmetry.noise > (most := largest_noise(layers)):
        raise IllegalGrowthError(
            f"noise {symmetry.noise:g} in {layers} layers would magnify what rounding leaves between the copies. Use "
            f"at most {most:g} at this depth, or leave it out."
        )
