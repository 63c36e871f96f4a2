"""Learning-rate schedules that go on after growth: the same scheduler, pointed at the grown optimizer, step for step.

Every group's learning rate is at every later step what the old schedule would have made of it, times the group's factor
(`growth.optimizer.GrownOptimizer.groups`). Schedulers keep some rates per group, which take its factor, and some for all groups: of
those, the floor of a cosine becomes one floor per group.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from growth.errors import UnsupportedModelError
from growth.wrappers import check_bare

_RATES = ("base_lrs", "_last_lr", "min_lrs", "max_lrs")
"""Lists of learning rates, one per parameter group."""
_PER_GROUP = ("lr_lambdas", "base_momentums", "max_momentums")
"""Other lists with one entry per group."""
_FLOOR = "eta_min"
"""A learning rate that all groups share."""


def check_scheduler(scheduler: LRScheduler, optimizer: Optimizer) -> None:
    """All that can be refused before a model grows.

    Raises:
        UnsupportedModelError: for what is no scheduler of torch's kind, or drives another optimizer.
    """
    check_bare(scheduler, "scheduler", LRScheduler)
    if not isinstance(scheduler, LRScheduler):
        raise UnsupportedModelError(
            f"{type(scheduler).__name__} is no torch LRScheduler. Unwrap it, or make a new one for the grown optimizer."
        )
    driven = [part.optimizer for part in [scheduler, *vars(scheduler).get("_schedulers", ())]]
    if any(part is not optimizer for part in driven):
        raise UnsupportedModelError(
            f"the {type(scheduler).__name__} drives another optimizer than the one given. Give the two that belong together."
        )


def repoint(scheduler: LRScheduler, optimizer: Optimizer, groups: Sequence[tuple[int, float]]) -> LRScheduler:
    """A copy of ``scheduler`` that drives ``optimizer`` from the step at which the old one stands. The one given is not touched.

    Args:
        scheduler: any of torch's, or one with the same attributes; chained and sequential ones with all they hold.
        optimizer: the grown one.
        groups: for each of its groups, the old one it came from and the factor on its learning rate (`growth.optimizer.GrownOptimizer`).

    Raises:
        UnsupportedModelError: for what is no scheduler of torch's kind.
    """
    check_scheduler(scheduler, scheduler.optimizer)
    _watch_steps(optimizer, vars(scheduler.optimizer).get("_opt_called", False))
    return _repointed(scheduler, optimizer, groups)


def _repointed(scheduler: LRScheduler, optimizer: Optimizer, groups: Sequence[tuple[int, float]]) -> LRScheduler:
    new = copy.copy(scheduler)
    own: dict[str, Any] = vars(new)
    own["optimizer"] = optimizer
    for name in _RATES:
        if isinstance(values := own.get(name), list):
            own[name] = [values[index] * factor for index, factor in groups]
    for name in _PER_GROUP:
        if isinstance(values := own.get(name), list):
            own[name] = [copy.copy(values[index]) for index, _ in groups]
    if isinstance(new, ReduceLROnPlateau):
        new.eps *= min(factor for _, factor in groups)  # smaller reductions than that are left out: none that was made before
    if (floors := own.get("floors")) is not None:
        own["floors"] = [floors[index] * factor for index, factor in groups]
    elif isinstance(floor := own.get(_FLOOR), (int, float)) and floor:
        _separate_floors(new, [floor * factor for _, factor in groups])
    if isinstance(inner := own.get("_schedulers"), (list, tuple)):
        own["_schedulers"] = [_repointed(part, optimizer, groups) for part in inner]
    return new


def _separate_floors(scheduler: LRScheduler, floors: list[float]) -> None:
    """Give each group a floor of its own, in a subclass that computes the rates of one group after the other."""
    kind: Any = type(scheduler)

    def each(self: Any, rates: Callable[[Any], list[float | Tensor]]) -> list[float | Tensor]:
        found: list[float | Tensor] = []
        for group, base, floor in zip(self.optimizer.param_groups, self.base_lrs, self.floors, strict=True):
            alone = copy.copy(self)
            vars(alone).update({"optimizer": SimpleNamespace(param_groups=[group]), "base_lrs": [base], _FLOOR: floor})
            found += rates(alone)
        return found

    methods = {name: getattr(kind, name) for name in ("get_lr", "_get_closed_form_lr") if name in dir(kind)}
    overridden: dict[str, Any] = {name: lambda self, rates=rates: each(self, rates) for name, rates in methods.items()}
    scheduler.__class__ = type(kind.__name__, (kind,), overridden)
    vars(scheduler)["floors"] = floors


def _watch_steps(optimizer: Optimizer, stepped: bool) -> None:
    """What every scheduler does to its optimizer when it is made: torch warns of one that did not, or that runs ahead of the optimizer."""
    before: list[dict[str, Any]] = [{key: group[key] for key in ("lr", "initial_lr") if key in group} for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # a number of its own, past which no tensor is written to
    LambdaLR(optimizer, lambda step: 1.0)
    for group, rates in zip(optimizer.param_groups, before, strict=True):
        group.pop("initial_lr")
        group.update(rates)
    vars(optimizer)["_opt_called"] = stepped
