"""How the learning rate, epsilon and weight decay of one parameter change when it grows.

A grown weight is v times the old one and its gradient g times the old one (v and g are the products
of the value and gradient coefficients of its dimensions, `growth.algebra.roles`). Training
continues exactly as the small model's would if every step changes the grown weight by v times the
old change. For an optimizer whose update has degree p in the gradient (Adam: 0, SGD: 1) this takes

    lr' = lr * v / g**p
    eps' = eps * g
    decoupled weight decay' = wd * lr / lr'
    coupled weight decay' = wd * g / v

Adafactor scales its steps by the root mean square of the weights, so its learning rate and weight
decay stay. Two lower limits change: eps_1, of the gradients (of their size for a vector, of the
mean square of a row for a matrix), and eps_2, of the root mean square of the weights:

    eps_1' = eps_1 * g (a vector), eps_1 * g**2 (a matrix)        eps_2' = eps_2 * v

(In a matrix eps_1 also limits the size of single entries, which would take g instead of g**2; that
limit lies far below the one on rows.)

One number serves all weights of a parameter only if v and g are the same for all of them. Where
they differ (uneven numbers of copies, queries fused with keys), the geometric mean is used, and the
parameter is listed as uneven.

References:
    Kingma & Ba 2014, arXiv 1412.6980; Loshchilov & Hutter 2017, arXiv 1711.05101; the updates as
    implemented in torch.optim.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from growth.algebra.maps import Floats
from growth.extension.part import Part
from growth.plan.tensor_plan import TensorPlan
from growth.training.optimizer_kinds import Kind

RATES = ("lr", "initial_lr", "max_lr", "min_lr", "swa_lr")
"""Settings of a parameter group that are learning rates: the current one, and those that torch's
schedulers store in the group. All of them take the factor on the learning rate."""


@dataclass(frozen=True)
class Factors:
    """The coefficients of one parameter, reduced to one number each.

    Args:
        value: v, the factor on its weights.
        gradient: g, the factor on its gradients.
        even: whether both factors are the same for every active coordinate.
        shifted: whether growth also adds to the weights (a gain that the model uses as 1 + w), so
            that weight decay, which pulls to 0, no longer does what it did.
    """

    value: float
    gradient: float
    even: bool
    shifted: bool


def factors_of(tensor: TensorPlan, part: Part | None = None) -> Factors:
    """The factors of one parameter, over its active coordinates.

    Args:
        tensor: how it becomes wider.
        part: where it came from before that, if the model was extended: of c copies of an entry each
            has a c-th of the gradient.

    Example:
        A matrix that is doubled along both dimensions: its input is read with 1/2, and the gradient
        of its output is halved.

        >>> factors_of(plan.tensors["model.layers.0.mlp.down_proj.weight"])
        Factors(value=0.5, gradient=0.5, even=True, shifted=False)
    """
    value, same_value = _product_of_means(d.value[d.active] for d in tensor.dimensions)
    gradient, same_gradient = _product_of_means(d.gradient[d.active] for d in tensor.dimensions)
    shifted = any(d.shift is not None for d in tensor.dimensions)
    if part is not None:
        share, same_share = _product_of_means(shares for shares in part.shares if shares is not None)
        gradient *= share if part.gradient is None else share * part.gradient
        same_gradient &= same_share and not part.uneven
    return Factors(value, gradient, same_value and same_gradient, shifted)


def _product_of_means(dimensions: Iterable[Floats]) -> tuple[float, bool]:
    """The product of the geometric means of ``|coefficients|``, one mean per dimension, and whether
    all coefficients of a dimension are equal to its mean."""
    product, even = 1.0, True
    for coefficients in dimensions:
        sizes = np.abs(coefficients)
        mean = float(np.exp(np.log(sizes).mean())) if len(sizes) else 1.0
        even &= bool(np.allclose(sizes, mean, rtol=1e-9))
        product *= mean
    return product, even


@dataclass(frozen=True)
class SettingFactors:
    """Factors on the settings of one parameter. Parameters with equal factors share a group.

    Args:
        rate: on the learning rate.
        epsilon: on ``eps``, or on Adafactor's first.
        decay: on the weight decay.
        floor: on Adafactor's second ``eps``, the least size of the weights.
        dtype: of an Adafactor parameter, whose first ``eps`` is by default that of the dtype.
    """

    rate: float = 1.0
    epsilon: float = 1.0
    decay: float = 1.0
    floor: float = 1.0
    dtype: torch.dtype | None = None

    @staticmethod
    def of(factors: Factors, kind: Kind, group: Mapping[str, Any], parameter: Tensor) -> SettingFactors:
        """The factors that continue training exactly, for a parameter in ``group``."""
        v, g = factors.value, factors.gradient
        if kind.own_scale:
            squared = 2 if parameter.ndim > 1 else 1
            return SettingFactors(epsilon=rounded(g**squared), floor=rounded(v), dtype=parameter.dtype)
        rate = v / g**kind.degree
        decay = 1.0 / rate if kind.decoupled(group) else g / v
        return SettingFactors(rounded(rate), rounded(g), rounded(decay))

    def scaled(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of ``group`` that the factors apply to, multiplied."""
        changed = {name: times(group[name], self.rate) for name in RATES if name in group}
        if "weight_decay" in group:
            changed["weight_decay"] = times(group["weight_decay"], self.decay)
        match group.get("eps"):
            case (epsilon, floor):  # Adafactor's pair
                if epsilon is None and self.epsilon != 1.0 and self.dtype is not None:
                    epsilon = torch.finfo(self.dtype).eps  # what Adafactor uses in place of None
                changed["eps"] = (times(epsilon, self.epsilon), times(floor, self.floor))
            case Real() as epsilon:
                changed["eps"] = times(epsilon, self.epsilon)
        return changed


def rounded(factor: float) -> float:
    """The factor to 13 digits, so that factors that are equal but for rounding share a group."""
    return float(f"{factor:.13g}")


def times(value: Any, factor: float) -> Any:
    """A setting times a factor. A tensor is copied, since optimizers and schedulers write to it; a
    number is returned as it is where the factor is 1, so that integers stay integers."""
    if isinstance(value, Tensor):
        return value * factor
    return value if factor == 1.0 or value is None else value * factor
