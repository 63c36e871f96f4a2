"""Training in stages: the model grows before chosen steps of a loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Unpack

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from growth.arguments import check_count, check_kind, whole_number
from growth.errors import IllegalGrowthError, shown
from growth.plan.choices import Choices, takes_choices
from growth.plan.options import chosen
from growth.training.model import widen
from growth.training.moments import Moments
from growth.training.optimizer_checks import Hyper

Stepped = tuple[nn.Module, Optimizer, LRScheduler | None, Any]
"""Model, optimizer, scheduler and what the step function returned."""


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
    """Train for a number of steps, and grow the model before some of them.

    This is a loop, not a trainer: ``step`` computes the loss, calls ``backward()`` and
    ``optimizer.step()``. Growth makes a *new* model and a *new* optimizer. An old optimizer would
    keep stepping the small model's parameters and the new model would never train, without any
    error; so use what is passed to ``step`` and what is yielded, and keep no other references.

    Do not use it, or `growth.widen`, inside a `transformers.Trainer` callback: Trainer and
    accelerate hold their own references to the old model and optimizer. Stop training at a saved
    checkpoint, grow that (``grow widen out/checkpoint-500 wide/checkpoint-500 --optimizer``), and
    resume from it.

    Args:
        model, optimizer: what training starts with. They are not modified by growth.
        step: (model, optimizer, step number) -> anything, for example the loss.
        stages: step number -> the choices of `growth.widen` to grow by before that step.
        steps: number of steps in all; they are numbered from 0.
        start: the first step to run, for training that was interrupted. Growth before earlier steps
            is taken to be done: give the model and optimizer as they were saved
            (`growth.training.resume.resume`).
        scheduler: of the learning rate. It is stepped after every step, and follows every growth.
        moments, hyper: what becomes of the optimizer, see `growth.widen`.
        common: choices for all stages; a stage's own override them.

    Yields:
        (model, optimizer, scheduler, what the step returned), after every step.

    Raises:
        IllegalGrowthError: at the call, for a stage outside the steps, an unknown choice, or a
            scheduler that steps by a metric.

    Example:
        >>> def step(model, optimizer, number):
        ...     optimizer.zero_grad()
        ...     loss = model(**batch(number)).loss
        ...     loss.backward()
        ...     optimizer.step()
        ...     return loss.item()
        >>> stages = {1000: {"width": 2}, 3000: {"width": 1.5}}
        >>> for model, optimizer, scheduler, loss in staged(model, optimizer, step, stages, 5000):
        ...     print(model.config.hidden_size, loss)
    """
    check_kind("model", model, nn.Module, "a model in memory")
    check_kind("optimizer", optimizer, Optimizer, "a torch.optim.Optimizer")
    check_kind("step", step, Callable, "a function that trains for one step")  # type: ignore[arg-type]
    check_kind("stages", stages, Mapping, "a dictionary of choices by the number of a step")
    steps = check_count("steps", steps)
    check_kind("scheduler", scheduler, (LRScheduler, ReduceLROnPlateau, type(None)), "a scheduler, or None")
    if (first := whole_number(start)) is None or first < 0:
        raise IllegalGrowthError(f"start must be a whole number, not {shown(start)}. Use 0 for the first step.")
    for number, choices in stages.items():
        check_kind(f"the stage at {shown(number)}", choices, Mapping, "a dictionary of choices")
    if never := [number for number in stages if number not in range(steps)]:
        raise IllegalGrowthError(
            f"the stage at step {shown(never[0])} is never reached: the steps are 0 to {steps - 1}. Use one of those."
        )
    if isinstance(scheduler, ReduceLROnPlateau):
        raise IllegalGrowthError(
            "ReduceLROnPlateau steps by a metric, which staged() does not have. Write the loop, and call growth.widen "
            "in it."
        )
    for choices in stages.values():
        chosen({**common, **choices})
    shared: dict[str, Any] = {**common, "moments": moments, "hyper": hyper}

    def run(model: nn.Module, optimizer: Optimizer, scheduler: LRScheduler | None) -> Iterator[Stepped]:
        for number in range(first, steps):
            if number in stages:
                grown = widen(model, optimizer=optimizer, scheduler=scheduler, **{**shared, **stages[number]})
                model, optimizer, scheduler = grown.model, grown.optimizer or optimizer, grown.scheduler
            result = step(model, optimizer, number)
            if scheduler is not None:
                scheduler.step()
            yield model, optimizer, scheduler, result

    return run(model, optimizer, scheduler)  # a generator inside, so that the checks above run at the call
