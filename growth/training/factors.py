"""One parameter's coefficients as numbers, and what follows for its learning rate, epsilon and
weight decay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from growth.plan.plan import TensorPlan
from growth.training.optimizer_kinds import Kind


@dataclass(frozen=True)
class Factors:
    """The coefficients of one parameter as a whole.

    Args:
        value: of its weights, v.
        gradient: of its gradients, g.
        even: whether they are the same for every coordinate that is alive.
        shifted: whether something is added to the weights as well, so that decay towards 0 is not
            what it was.
    """

    value: float
    gradient: float
    even: bool
    shifted: bool


def factors_of(tensor: TensorPlan) -> Factors:
    value, gradient, even = 1.0, 1.0, True
    for d in tensor.dimensions:
        for coefficients, is_value in ((d.value, True), (d.gradient, False)):
            sizes = np.abs(coefficients[d.active])
            mean = float(np.exp(np.log(sizes).mean())) if len(sizes) else 1.0
            even &= bool(np.allclose(sizes, mean, rtol=1e-9))
            value, gradient = (value * mean, gradient) if is_value else (value, gradient * mean)
    return Factors(value, gradient, even, any(d.shift is not None for d in tensor.dimensions))


@dataclass(frozen=True)
class _Settings:
    """Factors on the settings of one parameter: its learning rate, epsilon, weight decay, and the
    floor under the size of its weights."""

    rate: float = 1.0
    epsilon: float = 1.0
    decay: float = 1.0
    floor: float = 1.0
    dtype: torch.dtype | None = None

    @staticmethod
    def of(factors: Factors, kind: Kind, group: Mapping[str, Any], parameter: Tensor) -> _Settings:
        v, g = factors.value, factors.gradient
        if kind.own_scale:
            return _Settings(
                epsilon=_digits(g ** min(max(parameter.ndim, 1), 2)), floor=_digits(v), dtype=parameter.dtype
            )
        rate = v / g**kind.degree
        return _Settings(_digits(rate), _digits(g), _digits(1.0 / rate if kind.decoupled(group) else g / v))

    def scaled(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a group that change."""
        changed = {name: _times(group[name], self.rate) for name in RATES if name in group}
        changed |= {"weight_decay": _times(group["weight_decay"], self.decay)} if "weight_decay" in group else {}
        match group.get("eps"):
            case (epsilon, floor):
                if epsilon is None and self.epsilon != 1.0 and self.dtype is not None:
                    epsilon = torch.finfo(self.dtype).eps
                changed["eps"] = (_times(epsilon, self.epsilon), _times(floor, self.floor))
            case Real() as epsilon:
                changed["eps"] = _times(epsilon, self.epsilon)
        return changed


RATES = ("lr", "initial_lr", "max_lr", "min_lr", "swa_lr")
"""Settings of a group that are learning rates: its own, and those that schedulers leave there."""


def _digits(factor: float) -> float:
    """Rounded, so that factors that ought to be the same are."""
    return float(f"{factor:.13g}")


def _times(value: Any, factor: float) -> Any:
    """A number or tensor times a factor; a tensor of its own, since optimizers and schedulers write
    to it."""
    if isinstance(value, Tensor):
        return value * factor
    return value if factor == 1.0 or value is None else value * factor
