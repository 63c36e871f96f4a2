"""Learning-rate schedules that go on after growth: the same scheduler, pointed at the grown
optimizer, step for step.

Every group's learning rate is at every later step what the old schedule would have made of it,
times the group's factor (`growth.training.optimizer.GrownOptimizer.groups`). Schedulers keep some
rates per group, which take its factor, and some for all groups, which become one per group
(`growth.training.lr_schedulers_by_group`)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from growth.errors import UnsupportedModelError
from growth.training.lr_schedulers_by_group import BY_GROUP, LISTS
from growth.training.wrappers import check_bare

_RATES = ("base_lrs", "_last_lr", "min_lrs", "max_lrs", *LISTS)
"""Lists of learning rates, one per parameter group."""


_PER_GROUP = ("lr_lambdas", "base_momentums", "max_momentums")
"""Other lists with one entry per group."""


def check_scheduler(scheduler: LRScheduler, optimizer: Optimizer, hyper: str = "preserve") -> None:
    """All that can be refused before a model grows.

    Raises:
        UnsupportedModelError: for what is no scheduler of torch's kind, computes rates in a way of
            its own though they will differ by group (``hyper="preserve"``), or drives another
            optimizer.
    """
    check_bare(scheduler, "scheduler", LRScheduler)
    if not isinstance(scheduler, LRScheduler):
        raise UnsupportedModelError(
            f"{type(scheduler).__name__} is no torch LRScheduler. Unwrap it, or make a new one for the grown "
            "optimizer."
        )
    parts = [*_parts(scheduler)]
    own = next((part for part in parts if _computes_on_its_own(part)), None)
    if own is not None and hyper == "preserve":
        raise UnsupportedModelError(
            f"nobody declared how the learning rates of {type(own).__name__} follow those it began with. Use one of "
            "torch's, such as "
            "LambdaLR, or hyper='keep', which changes none."
        )
    driven = [part.optimizer for part in parts]
    lists = [
        vars(part)[name] for part in parts for name in (*_RATES, *_PER_GROUP) if isinstance(vars(part).get(name), list)
    ]
    plateau = isinstance(scheduler, ReduceLROnPlateau) and getattr(scheduler, "default_min_lr", None) is not None
    if any(len(each) < len(optimizer.param_groups) for each in lists) and not plateau:
        raise UnsupportedModelError(
            f"the {type(scheduler).__name__} was made before its optimizer got its last parameter group. Make it anew "
            "for all groups."
        )
    if any(part is not optimizer for part in driven):
        raise UnsupportedModelError(
            f"the {type(scheduler).__name__} drives another optimizer than the one given. Give the two that belong "
            "together."
        )


def _parts(scheduler: LRScheduler) -> Iterator[LRScheduler]:
    """It, and all that it holds."""
    yield scheduler
    for part in vars(scheduler).get("_schedulers", ()):
        yield from _parts(part)


def _computes_on_its_own(scheduler: LRScheduler) -> bool:
    """Whether it is none of torch's: one that overrides what they compute, or derives from one that
    takes a class by group."""
    methods = [
        getattr(type(scheduler), name, None)
        for name in ("get_lr", "_reduce_lr", "_get_closed_form_lr", "_update_lr", "step")
    ]
    ours = (*BY_GROUP, *(kind for kind, _, _ in BY_GROUP.values()))
    derived = isinstance(scheduler, tuple(BY_GROUP)) and type(scheduler) not in ours
    return derived or any(
        method is not None and not method.__module__.startswith(("torch.", "growth.")) for method in methods
    )


def repoint(scheduler: LRScheduler, optimizer: Optimizer, groups: Sequence[tuple[int, float]]) -> LRScheduler:
    """A copy of ``scheduler`` that drives ``optimizer`` from the step at which the old one stands.
    The one given is not touched.

    Args:
        scheduler: any of torch's; chained and sequential ones with all they hold. Any other serves
            where all factors are 1.
        optimizer: the grown one.
        groups: for each of its groups, the old one it came from and the factor on its learning rate
            (`growth.training.optimizer.GrownOptimizer`).

    Raises:
        UnsupportedModelError: for what is no scheduler of torch's kind.
    """
    check_scheduler(
        scheduler, scheduler.optimizer, "preserve" if any(factor != 1.0 for _, factor in groups) else "keep"
    )
    _watch_steps(optimizer, vars(scheduler.optimizer).get("_opt_called", False))
    return _repointed(scheduler, optimizer, groups)


def _repointed(scheduler: LRScheduler, optimizer: Optimizer, groups: Sequence[tuple[int, float]]) -> LRScheduler:
    new = copy.copy(scheduler)
    own: dict[str, Any] = vars(new)
    own["optimizer"] = optimizer
    if (
        isinstance(new, ReduceLROnPlateau) and getattr(new, "default_min_lr", None) is not None
    ):  # as torch does for groups that came later
        late = scheduler.optimizer.param_groups[len(new.min_lrs) :]
        new.min_lrs = new.min_lrs + [vars(new)["default_min_lr"]] * len(late)
        new._last_lr = [*new._last_lr, *(group["lr"] for group in late)][: len(new.min_lrs)]
    kind, one, each = BY_GROUP.get(type(new), (type(new), "", ""))
    if one and own[one] and any(factor != 1.0 for _, factor in groups):
        new.__class__ = kind
        own[each] = [float(own[one])] * len(scheduler.optimizer.param_groups)
    for name in _RATES:
        if isinstance(values := own.get(name), list):
            own[name] = [values[index] * factor for index, factor in groups]
    for name in _PER_GROUP:
        if isinstance(values := own.get(name), list):
            own[name] = [copy.copy(values[index]) for index, _ in groups]
    if isinstance(inner := own.get("_schedulers"), (list, tuple)):
        own["_schedulers"] = [_repointed(part, optimizer, groups) for part in inner]
    return new


def _watch_steps(optimizer: Optimizer, stepped: bool) -> None:
    """What every scheduler does to its optimizer when it is made: torch warns of one that did not,
    or that runs ahead of the optimizer."""
    before: list[dict[str, Any]] = [
        {key: group[key] for key in ("lr", "initial_lr") if key in group} for group in optimizer.param_groups
    ]
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # a number of its own, past which no tensor is written to
    LambdaLR(optimizer, lambda step: 1.0)
    for group, rates in zip(optimizer.param_groups, before, strict=True):
        group.pop("initial_lr")
        group.update(rates)
    vars(optimizer)["_opt_called"] = stepped
