"""Which optimizers grow: how the state and the update of each scale with the gradient.

A quantity has *degree* p in the gradient if it is multiplied by ``c**p`` when every gradient is
multiplied by c. Adam's ``exp_avg`` has degree 1, ``exp_avg_sq`` degree 2, and its update, the
quotient of the one and the root of the other, degree 0. SGD's update has degree 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch.optim import SGD, Adafactor, Adagrad, Adam, AdamW, NAdam, Optimizer, RAdam, RMSprop


@dataclass(frozen=True)
class Kind:
    """How one optimizer class scales with the gradient.

    Args:
        state: state name -> its degree in the gradient, for every state that has one entry per
            weight (or per row or column, see ``reduced``). All other states are counters.
        degree: of the update.
        decoupled: (parameter group) -> whether weight decay is applied to the weight directly, as
            AdamW does, rather than added to the gradient.
        own_scale: whether the optimizer scales its steps by the size of the parameter itself, as
            Adafactor does, so that learning rate and weight decay stay as they are.
        reduced: states that are means of squares over one dimension, which has size 1 in them.
        start: name of the setting that holds the initial value of a state of degree 2; None where
            states start at 0.
        unsettled: (parameter group, state of one parameter) -> whether the next update has another
            degree than later ones.

    Example:
        >>> KINDS[AdamW].state["exp_avg_sq"], KINDS[AdamW].degree, KINDS[SGD].degree
        (2, 0, 1)
    """

    state: Mapping[str, int]
    degree: int = 0
    decoupled: Callable[[Mapping[str, Any]], bool] = lambda group: bool(group.get("decoupled_weight_decay"))
    own_scale: bool = False
    reduced: tuple[str, ...] = ()
    start: str | None = None
    unsettled: Callable[[Mapping[str, Any], Mapping[str, Any]], bool] = lambda group, state: False


def _unrectified(group: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
    """Whether RAdam's next step does not divide by the second moment yet.

    References:
        Liu et al. 2019, arXiv 1908.03265, algorithm 2: ``rho_t <= 5``.
    """
    beta, step = float(group["betas"][1]), float(state.get("step", 0)) + 1
    limit = 2 / (1 - beta) - 1
    return bool(limit - 2 * step * beta**step / (1 - beta**step) <= 5)


_ADAM = Kind({"exp_avg": 1, "exp_avg_sq": 2, "max_exp_avg_sq": 2})


KINDS: dict[type[Optimizer], Kind] = {
    **dict.fromkeys((Adam, AdamW, NAdam), _ADAM),
    RAdam: replace(_ADAM, unsettled=_unrectified),
    SGD: Kind({"momentum_buffer": 1}, degree=1),
    Adagrad: Kind({"sum": 2}, start="initial_accumulator_value"),
    RMSprop: Kind({"square_avg": 2, "grad_avg": 1, "momentum_buffer": 0}),
    Adafactor: Kind(
        {"variance": 2, "row_var": 2, "col_var": 2},
        decoupled=lambda group: True,
        own_scale=True,
        reduced=("row_var", "col_var"),
    ),
}
"""Optimizer class -> how it scales. Subclasses are not looked up: their update may be another."""
