"""Learning-rate schedulers that continue after growth, driving the grown optimizer.

At every later step, the learning rate of every group is what the old schedule gives for the old
group, times the factor of the new one (`growth.training.optimizer.GrownOptimizer.groups`).
Schedulers keep some rates per group: these take the factor. They keep others, such as a cosine's
floor, as one number for all groups: these become one number per group
(`growth.training.lr_schedulers_by_group`).
"""

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
"""Attributes of schedulers that are lists of learning rates, one per parameter group."""


_PER_GROUP = ("lr_lambdas", "base_momentums", "max_momentums")
"""Attributes that are other lists with one entry per parameter group."""


_COMPUTING = ("get_lr", "_reduce_lr", "_get_closed_form_lr", "_update_lr", "step")
"""Methods that compute learning rates."""


def check_scheduler(scheduler: LRScheduler, optimizer: Optimizer, hyper: str = "preserve") -> None:
    """Refuse a scheduler that cannot follow the growth of its optimizer.

    Args:
        scheduler: the scheduler.
        optimizer: the optimizer it should drive.
        hyper: with ``preserve`` the new groups have different factors, which custom schedulers
            cannot follow; with ``keep`` they can.

    Raises:
        UnsupportedModelError: no torch scheduler, a custom one under ``preserve``, one that drives
            another optimizer, or one made before the optimizer got its last group.
    """
    check_bare(scheduler, "scheduler", LRScheduler)
    if not isinstance(scheduler, LRScheduler):
        raise UnsupportedModelError(
            f"{type(scheduler).__name__} is not a torch LRScheduler. Unwrap it, or make a new one for the grown "
            "optimizer."
        )
    parts = [*_parts(scheduler)]
    custom = next((part for part in parts if _is_custom(part)), None)
    if custom is not None and hyper == "preserve":
        raise UnsupportedModelError(
            f"{type(custom).__name__} is not supported: growth changes learning rates by parameter group, and has no "
            "rule for this class. Use one of torch's own schedulers, such as LambdaLR, or hyper='keep', which changes "
            "no rate."
        )
    lists = [
        vars(part)[name] for part in parts for name in (*_RATES, *_PER_GROUP) if isinstance(vars(part).get(name), list)
    ]
    if any(len(each) < len(optimizer.param_groups) for each in lists) and not _extends_itself(scheduler):
        raise UnsupportedModelError(
            f"the {type(scheduler).__name__} was made before its optimizer got its last parameter group. Make it anew "
            "for all groups."
        )
    if any(part.optimizer is not optimizer for part in parts):
        raise UnsupportedModelError(
            f"the {type(scheduler).__name__} drives another optimizer than the one given. Give the two that belong "
            "together."
        )


def _parts(scheduler: LRScheduler) -> Iterator[LRScheduler]:
    """A scheduler and, for chained and sequential ones, all that it holds."""
    yield scheduler
    for part in vars(scheduler).get("_schedulers", ()):
        yield from _parts(part)


def _is_custom(scheduler: LRScheduler) -> bool:
    """Whether its class overrides how torch's compute rates, or derives from one of those that are
    replaced by a class of `growth.training.lr_schedulers_by_group`."""
    methods = [getattr(type(scheduler), name, None) for name in _COMPUTING]
    replaceable = (*BY_GROUP, *(kind for kind, _, _ in BY_GROUP.values()))
    derived = isinstance(scheduler, tuple(BY_GROUP)) and type(scheduler) not in replaceable
    return derived or any(
        method is not None and not method.__module__.startswith(("torch.", "growth.")) for method in methods
    )


def _extends_itself(scheduler: LRScheduler) -> bool:
    """Whether it gives groups that were added later a setting by itself, as ReduceLROnPlateau does
    where ``min_lr`` was one number."""
    return isinstance(scheduler, ReduceLROnPlateau) and getattr(scheduler, "default_min_lr", None) is not None


def repoint(scheduler: LRScheduler, optimizer: Optimizer, groups: Sequence[tuple[int, float]]) -> LRScheduler:
    """A copy of ``scheduler`` that drives ``optimizer``, from the step that the old one has
    reached. The one given is not touched.

    Args:
        scheduler: any of torch's, including chained and sequential ones; a custom one only where
            all factors are 1.
        optimizer: the grown one.
        groups: for each of its groups, the index of the old group and the factor on its learning
            rate (`growth.training.optimizer.GrownOptimizer.groups`).

    Raises:
        UnsupportedModelError: see `check_scheduler`.

    Example:
        A cosine from 0.1 to 0.01, for one old group that growth split in two: the second group,
        with factor 1/2, follows a cosine from 0.05 to 0.005.

        >>> scheduler = CosineAnnealingLR(small, T_max=100, eta_min=0.01)
        >>> scheduler = repoint(scheduler, grown, [(0, 1.0), (0, 0.5)])
    """
    check_scheduler(
        scheduler, scheduler.optimizer, "preserve" if any(factor != 1.0 for _, factor in groups) else "keep"
    )
    _watch_steps(optimizer, vars(scheduler.optimizer).get("_opt_called", False))
    return _repointed(scheduler, optimizer, groups)


def _repointed(scheduler: LRScheduler, optimizer: Optimizer, groups: Sequence[tuple[int, float]]) -> LRScheduler:
    new = copy.copy(scheduler)
    state: dict[str, Any] = vars(new)
    state["optimizer"] = optimizer
    if isinstance(new, ReduceLROnPlateau) and _extends_itself(new):
        late = scheduler.optimizer.param_groups[len(new.min_lrs) :]
        new.min_lrs = new.min_lrs + [state["default_min_lr"]] * len(late)
        new._last_lr = [*new._last_lr, *(group["lr"] for group in late)][: len(new.min_lrs)]
    kind, one, each = BY_GROUP.get(type(new), (type(new), "", ""))
    if one and state[one] and any(factor != 1.0 for _, factor in groups):
        new.__class__ = kind
        state[each] = [float(state[one])] * len(scheduler.optimizer.param_groups)
    for name in _RATES:
        if isinstance(values := state.get(name), list):
            state[name] = [values[index] * factor for index, factor in groups]
    for name in _PER_GROUP:
        if isinstance(values := state.get(name), list):
            state[name] = [copy.copy(values[index]) for index, _ in groups]
    if isinstance(inner := state.get("_schedulers"), (list, tuple)):
        state["_schedulers"] = [_repointed(part, optimizer, groups) for part in inner]
    return new


def _watch_steps(optimizer: Optimizer, stepped: bool) -> None:
    """Prepare an optimizer as every scheduler does when it is made.

    Torch then knows whether the optimizer has stepped, and warns if a scheduler steps before it.
    Making a scheduler also writes learning rates, so they are put back.

    Args:
        optimizer: the grown one.
        stepped: whether the old one has stepped.
    """
    before: list[dict[str, Any]] = [
        {key: group[key] for key in ("lr", "initial_lr") if key in group} for group in optimizer.param_groups
    ]
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # a float, since a scheduler would write into a tensor, which `before` still holds
    LambdaLR(optimizer, lambda step: 1.0)
    for group, rates in zip(optimizer.param_groups, before, strict=True):
        group.pop("initial_lr")
        group.update(rates)
    vars(optimizer)["_opt_called"] = stepped
