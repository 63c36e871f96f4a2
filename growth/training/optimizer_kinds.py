"""Which optimizers grow: how the state and the updates of each depend on the gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch.optim import SGD, Adafactor, Adagrad, Adam, AdamW, NAdam, Optimizer, RAdam, RMSprop


@dataclass(frozen=True)
class Kind:
    """How one optimizer's state and updates follow the gradients.

    Args:
        state: name of a state as large as its parameter -> its degree in the gradient.
        degree: of the update.
        decoupled: whether weight decay stands outside the gradient.
        own_scale: whether steps are relative to the size of the parameter and of its update, so
            that settings stay as they are.
        reduced: states that are means of squares over one dimension, of size 1 there.
        start: the setting that says what a state of degree 2 starts from, where that is not 0.
        unsettled: (group, state) -> whether the next update is of another degree than later ones.
    """

    state: Mapping[str, int]
    degree: int = 0
    decoupled: Callable[[Mapping[str, Any]], bool] = lambda group: bool(group.get("decoupled_weight_decay"))
    own_scale: bool = False
    reduced: tuple[str, ...] = ()
    start: str | None = None
    unsettled: Callable[[Mapping[str, Any], Mapping[str, Any]], bool] = lambda group, state: False


def _unrectified(group: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
    """Whether RAdam's next step goes without its second moment (Liu et al. 2019, arXiv 1908.03265,
    algorithm 2: rho_t <= 5)."""
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
