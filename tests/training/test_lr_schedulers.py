"""Schedules continue: at every later step, the learning rate of each group is what the old schedule
gives, times the group's factor."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiplicativeLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    SequentialLR,
    StepLR,
)
from torch.optim.swa_utils import SWALR
from transformers import get_cosine_schedule_with_warmup, get_cosine_with_min_lr_schedule_with_warmup

from growth.errors import UnsupportedModelError
from growth.training import lr_schedulers
from growth.training.factors import RATES
from growth.training.lr_schedulers import check_scheduler, repoint

Make = Callable[[Optimizer], Any]
FACTORS = [[1.0, 1 / 3], [1.0, 0.5, 3.0]]
"""Of the groups that the first and the second old group are split into."""
GROUPS = [(index, factor) for index, factors in enumerate(FACTORS) for factor in factors]
TOTAL = 40


def sequential(optimizer: Optimizer) -> LRScheduler:
    parts = [LinearLR(optimizer, 0.1, total_iters=6), CosineAnnealingLR(optimizer, 30, eta_min=1e-3)]
    return SequentialLR(optimizer, parts, milestones=[7])


def chained(optimizer: Optimizer) -> LRScheduler:
    return ChainedScheduler((ConstantLR(optimizer, 0.1, total_iters=9), ExponentialLR(optimizer, 0.9)))


SCHEDULES: dict[str, Make] = {
    "lambda": lambda o: LambdaLR(o, lambda step: 0.95**step),
    "lambdas": lambda o: LambdaLR(o, [lambda step: 0.95**step, lambda step: 1 / (step + 1)]),
    "multiplicative": lambda o: MultiplicativeLR(o, lambda step: 0.9),
    "step": lambda o: StepLR(o, 7, 0.3),
    "steps": lambda o: MultiStepLR(o, [5, 11], 0.3),
    "linear": lambda o: LinearLR(o, 0.1, total_iters=20),
    "exponential": lambda o: ExponentialLR(o, 0.9),
    "polynomial": lambda o: PolynomialLR(o, 30, 2.0),
    "cosine": lambda o: CosineAnnealingLR(o, 30),
    "averaging": lambda o: SWALR(o, [1e-3, 2e-3], anneal_epochs=9),
    "cosine with a tensor for a floor": lambda o: CosineAnnealingLR(
        o, 30, eta_min=torch.tensor(1e-3, dtype=torch.float64)
    ),  # type: ignore
    "cosine with a floor": lambda o: CosineAnnealingLR(o, 30, eta_min=1e-3),
    "restarts with a floor": lambda o: CosineAnnealingWarmRestarts(o, 8, eta_min=1e-3),
    "one cycle": lambda o: OneCycleLR(o, [0.1, 0.2], total_steps=TOTAL + 5),
    "one cycle, three phases": lambda o: OneCycleLR(
        o, 0.1, total_steps=TOTAL + 5, three_phase=True, cycle_momentum=False
    ),
    "cyclic": lambda o: CyclicLR(
        o, 1e-3, [0.1, 0.2], 6, mode="triangular2", base_momentum=[0.8, 0.7], max_momentum=0.9
    ),
    "sequential": sequential,
    "chained": chained,
    "warm-up and cosine": lambda o: get_cosine_schedule_with_warmup(o, 5, 35),
    "warm-up and cosine with a floor": lambda o: get_cosine_with_min_lr_schedule_with_warmup(
        o, 5, 35, min_lr_rate=0.1
    ),
}


def optimizers(tensor: bool = False) -> Optimizer:
    groups: list[dict[str, Any]] = [{"params": [nn.Parameter(torch.ones(2))], "lr": rate} for rate in (0.05, 0.02)]
    groups = [{**group, "lr": torch.tensor(group["lr"], dtype=torch.float64)} if tensor else group for group in groups]
    return SGD(groups, momentum=0.9, lr=0.01)


def split(old: Optimizer) -> Optimizer:
    """An optimizer whose groups are split as growth splits them."""
    groups = []
    for index, factor in GROUPS:
        group = {
            key: value.clone() if isinstance(value, torch.Tensor) else value
            for key, value in old.param_groups[index].items()
        }
        rates = {key: group[key] * factor for key in RATES if key in group}
        groups.append({**group, **rates, "params": [nn.Parameter(torch.ones(2))]})
    return SGD(groups, momentum=0.9, lr=0.01)


def step(optimizer: Optimizer, scheduler: Any) -> None:
    optimizer.step()
    scheduler.step()


def agree(old: Optimizer, new: Optimizer) -> None:
    for (index, factor), group in zip(GROUPS, new.param_groups, strict=True):
        assert float(group["lr"]) == pytest.approx(float(old.param_groups[index]["lr"]) * factor, rel=1e-12)
        assert group["momentum"] == pytest.approx(old.param_groups[index]["momentum"], rel=1e-12)


@pytest.mark.parametrize(("taken", "tensor"), [(0, True), (1, False), (3, False), (9, True)])
@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_are_the_old_ones_times_the_factor(name: str, taken: int, tensor: bool) -> None:
    """Warnings are errors, so torch also sees optimizer and scheduler step in order, from the first
    step on."""
    old = optimizers(tensor)
    old_scheduler = SCHEDULES[name](old)
    for _ in range(taken):
        step(old, old_scheduler)
    new = split(old)
    before = copy.deepcopy(
        [{key: value for key, value in group.items() if key != "params"} for group in old.param_groups]
    )
    scheduler = repoint(old_scheduler, new, GROUPS)
    agree(old, new)
    step(new, scheduler)
    assert [{key: value for key, value in group.items() if key != "params"} for group in old.param_groups] == before
    step(old, old_scheduler)
    agree(old, new)
    for _ in range(TOTAL - taken - 1):
        step(old, old_scheduler)
        step(new, scheduler)
        agree(old, new)
    assert isinstance(scheduler, type(old_scheduler)) and scheduler.optimizer is new and old_scheduler.optimizer is old
    found, wanted = scheduler.get_last_lr(), old_scheduler.get_last_lr()
    for (index, factor), rate in zip(GROUPS, found, strict=True):
        assert float(rate) == pytest.approx(float(wanted[index]) * factor, rel=1e-12)


@pytest.mark.parametrize("name", ["cosine with a floor", "sequential"])
def test_it_grows_twice(name: str) -> None:
    old = optimizers()
    old_scheduler = SCHEDULES[name](old)
    step(old, old_scheduler)
    new = split(old)
    scheduler = repoint(old_scheduler, new, GROUPS)
    again = SGD(
        [{**group, "lr": group["lr"] / 2, "initial_lr": group["initial_lr"] / 2} for group in new.param_groups],
        momentum=0.9,
    )
    last = repoint(scheduler, again, [(index, 0.5) for index in range(len(GROUPS))])
    for _ in range(20):
        step(old, old_scheduler)
        step(again, last)
        for (index, factor), group in zip(GROUPS, again.param_groups, strict=True):
            assert group["lr"] == pytest.approx(old.param_groups[index]["lr"] * factor / 2, rel=1e-12)


@pytest.mark.filterwarnings("ignore:Seems like:UserWarning")  # of every scheduler that was pickled
@pytest.mark.parametrize("name", ["cosine with a floor", "restarts with a floor", "sequential"])
def test_it_can_be_pickled(name: str) -> None:
    old = optimizers()
    old_scheduler = SCHEDULES[name](old)
    step(old, old_scheduler)
    scheduler = repoint(old_scheduler, split(old), GROUPS)
    loaded = pickle.loads(pickle.dumps(scheduler))
    for _ in range(9):
        step(loaded.optimizer, loaded)
        step(old, old_scheduler)
        agree(old, loaded.optimizer)


class Floored(LambdaLR):
    """A custom schedule: its lowest rate does not follow the rates it started with."""

    def get_lr(self) -> list[float | torch.Tensor]:
        return [max(0.01, float(rate)) for rate in super().get_lr()]


class Derived(CosineAnnealingLR):
    """Computes no rate itself, but has no version with one floor per group."""


def test_a_custom_schedule_follows_where_rates_stay() -> None:
    for make in (lambda o: Floored(o, lambda step: 0.5**step), lambda o: Derived(o, 9, eta_min=0.1)):
        old = optimizers()
        old_scheduler = make(old)  # type: ignore[no-untyped-call]
        with pytest.raises(
            UnsupportedModelError, match=rf"^{type(old_scheduler).__name__} is not supported: .* or hyper='keep'"
        ):
            repoint(old_scheduler, split(old), GROUPS)
        inside = ChainedScheduler([SequentialLR(old, [old_scheduler, ConstantLR(old, 1.0)], [5])])
        with pytest.raises(UnsupportedModelError, match=rf"^{type(old_scheduler).__name__} is not supported"):
            check_scheduler(inside, old)
        old = optimizers()
        old_scheduler = make(old)  # type: ignore[no-untyped-call]
        check_scheduler(old_scheduler, old, "keep")
        new = optimizers()
        scheduler = repoint(old_scheduler, new, [(0, 1.0), (1, 1.0)])
        for _ in range(9):
            step(old, old_scheduler)
            step(new, scheduler)
        assert [group["lr"] for group in new.param_groups] == [group["lr"] for group in old.param_groups]


def test_torch_still_warns_of_a_schedule_ahead_of_its_optimizer() -> None:
    old = optimizers()
    scheduler = repoint(StepLR(old, 7), split(old), GROUPS)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        scheduler.step()
    old = optimizers()
    schedule_before = StepLR(old, 7)
    old.step()
    repoint(schedule_before, split(old), GROUPS).step()


def test_a_state_dict_goes_into_a_scheduler_of_the_same_kind() -> None:
    old = optimizers()
    old_scheduler = CosineAnnealingLR(old, 30)
    for _ in range(5):
        step(old, old_scheduler)
    new = split(old)
    scheduler = repoint(old_scheduler, new, GROUPS)
    resumed = CosineAnnealingLR(split(old), 30)
    resumed.load_state_dict(scheduler.state_dict())
    assert "floors" not in scheduler.state_dict()
    step(new, scheduler)
    step(resumed.optimizer, resumed)
    assert resumed.get_last_lr() == pytest.approx(scheduler.get_last_lr(), rel=1e-12)


class Wrapped:
    """A wrapper that is not a torch scheduler."""


def test_what_is_no_scheduler_or_drives_another_optimizer_is_refused() -> None:
    old = optimizers()
    with pytest.raises(UnsupportedModelError, match=r"^Wrapped is not a torch LRScheduler. Unwrap it"):
        check_scheduler(Wrapped(), old)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedModelError, match=r"^the StepLR drives another optimizer than the one given"):
        check_scheduler(StepLR(optimizers(), 3), old)
    check_scheduler(chained(old), old)


@pytest.mark.parametrize("list_name", ["base_lrs", "max_lrs", "lr_lambdas", "max_momentums"])
def test_a_list_that_is_forgotten_is_seen(list_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = {"base_lrs": "cosine", "lr_lambdas": "lambdas"}.get(list_name, "cyclic")
    for lists in ("_RATES", "_PER_GROUP"):
        others = tuple(other for other in getattr(lr_schedulers, lists) if other != list_name)
        monkeypatch.setattr(lr_schedulers, lists, others)
    with pytest.raises((AssertionError, ValueError)):
        test_rates_are_the_old_ones_times_the_factor(name, 3, False)


def test_one_floor_for_all_groups_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lr_schedulers, "BY_GROUP", {})
    for name in ("cosine with a floor", "restarts with a floor"):
        with pytest.raises(AssertionError):
            test_rates_are_the_old_ones_times_the_factor(name, 3, False)


def test_adamw_cycles_its_first_beta() -> None:
    old = AdamW([nn.Parameter(torch.ones(2))], lr=0.1)
    old_scheduler = OneCycleLR(old, 0.1, total_steps=20)
    step(old, old_scheduler)
    groups = [
        {**old.param_groups[0], **{key: old.param_groups[0][key] / 2 for key in RATES if key in old.param_groups[0]}}
    ]
    new = AdamW([{**groups[0], "params": [nn.Parameter(torch.ones(2))]}])
    scheduler = repoint(old_scheduler, new, [(0, 0.5)])
    for _ in range(10):
        step(old, old_scheduler)
        step(new, scheduler)
        assert new.param_groups[0]["betas"] == old.param_groups[0]["betas"]
        assert new.param_groups[0]["lr"] == pytest.approx(old.param_groups[0]["lr"] / 2, rel=1e-12)
