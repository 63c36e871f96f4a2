"""A learning-rate warm-up of the new coordinates alone, in the steps after growth."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from growth.arguments import check_count, check_kind, real_number
from growth.errors import IllegalGrowthError, shown
from growth.training.model import Grown
from growth.training.step_hooks import Held, Hooks, around_steps
from growth.training.wrappers import check_not_sharded


class Warmup(Hooks):
    """A warm-up in progress. It ends by itself after its steps, unless new coordinates then go on at a rate
    of their own; ``remove()`` ends it at once."""


def fresh_warmup(grown: Grown[Any], steps: int, rate: float = 1.0) -> Warmup:
    """Ramp up the updates of new coordinates linearly over the next steps of the grown optimizer.

    New coordinates start with a reduced step that grows linearly, so that the trained weights are
    not disturbed; this is learning-rate warm-up restricted to new coordinates. At step t (1, 2,
    ...) after growth their update is multiplied by ``rate * t / steps``, and once t has reached
    ``steps`` by ``rate``. The old block keeps its learning rate.

    A weight is new unless it belongs to the first copy of an old coordinate along every dimension
    of its tensor. The warm-up works through hooks on the optimizer, and keeps a copy of the new
    weights during each step; two at once multiply. It does not survive another growth, which makes a
    new optimizer, nor a restart, after which it is to be called again.

    Args:
        grown: a growth that included its optimizer.
        steps: number of steps until new coordinates move at the full rate; at least 1, which ramps
            nothing up.
        rate: the full rate of new coordinates, in learning rates of their parameters; above 0. At 1 the
            warm-up ends by itself. At another, such as 1.3, it stays until ``remove()``. It multiplies the
            whole update, of AdamW's also the weight decay.

    Returns:
        The warm-up, to end it early.

    Raises:
        IllegalGrowthError: no optimizer in ``grown``, fewer than 1 step, or a rate that is no number above 0.
        UnsupportedModelError: a sharded model.

    Example:
        >>> grown = growth.widen(model, width=2, optimizer=optimizer, moments="fresh")
        >>> warmup = fresh_warmup(grown, 100)       # step 1: 1 % of the new coordinates' update
        >>> for batch in batches:
        ...     train_step(grown.model, grown.optimizer, batch)

        After 100 steps at 1.3 times the learning rate, as long as training lasts:

        >>> warmup = fresh_warmup(grown, 100, rate=1.3)

    References:
        Goyal et al. 2017, arXiv 1706.02677, section 2.2, for warm-up of a whole model.
    """
    check_kind("grown", grown, Grown, "what growth.widen returned")
    steps, optimizer = check_count("steps", steps), grown.optimizer
    factor = real_number(rate)
    if factor is None or not 0 < factor < math.inf:
        raise IllegalGrowthError(
            f"rate must be a number above 0, not {shown(rate)}. Use 1.3, for example, or leave it out for 1."
        )
    if optimizer is None:
        raise IllegalGrowthError(
            "a warm-up needs the grown optimizer. Give growth.widen the old one: "
            "growth.widen(model, optimizer=optimizer)."
        )
    check_not_sharded(grown.model, "A warm-up of new coordinates is not for sharded models: warm up the whole model.")
    masks = grown.new_coordinates()
    held = Held({grown.model.get_parameter(name): new for name, new in masks.items() if new.any()})
    taken = 0

    def count(*_: Any) -> None:
        nonlocal taken
        taken += 1
        if taken > steps and factor == 1:
            held.release()

    def part(before: Tensor, after: Tensor) -> Tensor:
        return torch.lerp(before, after, factor * min(taken / steps, 1.0))

    return Warmup((optimizer.register_step_pre_hook(count), *around_steps(held, optimizer, part)))
