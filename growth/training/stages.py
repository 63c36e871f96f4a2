"""Growth inside a training loop: a warm-up for what is new, stages around a step function of one's
own, and the threshold for clipping."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Unpack

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from growth.errors import IllegalGrowthError
from growth.plan.choices import Choices, takes_choices
from growth.plan.options import chosen
from growth.training.model import widen
from growth.training.moments import Moments
from growth.training.optimizer_checks import Hyper

Stepped = tuple[nn.Module, Optimizer, LRScheduler | None, Any]


@takes_choices
def staged(
    model: nn.Module,
    optimizer: Optimizer,
    step: Callable[[nn.Module, Optimizer, int], Any],
    stages: Mapping[int, Choices],
    steps: int,
    *,
    start: int = 0,
    scheduler: LRScheduler | None = None,
    moments: Moments = "preserve",
    hyper: Hyper = "preserve",
    **common: Unpack[Choices],
) -> Iterator[Stepped]:
    """Train by stages: before step t, grow by ``stages[t]``; then call ``step``. Not a trainer: the
    step is yours.

    Args:
        model, optimizer: to begin with.
        step: (model, optimizer, number of the step) -> anything.
        stages: step -> how to grow before it.
        steps: in all.
        start: the first step, where training goes on that was cut short; stages before it are past.
        scheduler: of the learning rate; it is advanced after every step, and re-pointed at every
            growth.
        moments, hyper: what becomes of the optimizer, see `growth.training.model.widen`.
        common: choices that all stages share.

    Yields:
        (model, optimizer, scheduler, what the step returned), after every step.

    Raises:
        IllegalGrowthError: at once, for a stage that no step comes to, choices that do not exist,
            or a scheduler that waits for a metric.

    Example:
        >>> stages = {1000: {"width": 2}, 3000: {"width": 3}}
        >>> for model, optimizer, scheduler, loss in staged(model, optimizer, step, stages, 5000): ...
    """
    if never := sorted(stages.keys() - set(range(steps))):
        raise IllegalGrowthError(
            f"no step comes to the stage at {never[0]}: there are {steps}, from 0 on. Use one of those."
        )
    if isinstance(scheduler, ReduceLROnPlateau):
        raise IllegalGrowthError(
            "ReduceLROnPlateau steps by a metric, which stages do not know. Use growth.widen in a loop of your own."
        )
    for choices in stages.values():
        chosen({**common, **choices})
    shared: dict[str, Any] = {**common, "moments": moments, "hyper": hyper}

    def go(model: nn.Module, optimizer: Optimizer, scheduler: LRScheduler | None) -> Iterator[Stepped]:
        for number in range(start, steps):
            if number in stages:
                grown = widen(model, optimizer=optimizer, scheduler=scheduler, **{**shared, **stages[number]})
                model, optimizer, scheduler = grown.model, grown.optimizer or optimizer, grown.scheduler
            result = step(model, optimizer, number)
            if scheduler is not None:
                scheduler.step()
            yield model, optimizer, scheduler, result

    return go(model, optimizer, scheduler)
