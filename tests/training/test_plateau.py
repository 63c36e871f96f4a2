"""Reductions on a plateau continue after growth, group by group."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau
from training.test_lr_schedulers import GROUPS, TOTAL, agree, optimizers, split

from growth.errors import UnsupportedModelError
from growth.training import lr_schedulers
from growth.training.lr_schedulers import check_scheduler, repoint


def test_a_plateau_is_seen_where_it_was() -> None:
    old = optimizers()
    old_scheduler = ReduceLROnPlateau(old, factor=0.5, patience=2, min_lr=[1e-3, 4e-3])
    losses = [3.0, 2.0, 2.0, 2.0]
    for loss in losses:
        old_scheduler.step(loss)
    new = split(old)
    scheduler = repoint(old_scheduler, new, GROUPS)
    assert isinstance(scheduler, ReduceLROnPlateau)
    start = old.param_groups[0]["lr"]
    for _ in range(TOTAL):
        scheduler.step(2.0)
        old_scheduler.step(2.0)
        agree(old, new)
        assert old.param_groups[0]["lr"] < start, "the steps before growth count"
    assert old.param_groups[0]["lr"] == 1e-3 and new.param_groups[1]["lr"] == pytest.approx(1e-3 / 3)


def test_a_plateau_stops_reducing_where_it_did() -> None:
    """``eps``, the smallest reduction worth making, is one number for groups of different rates."""
    old = optimizers()
    old_scheduler = ReduceLROnPlateau(old, factor=0.5, patience=0, eps=4e-3)
    new = split(old)
    scheduler = repoint(old_scheduler, new, GROUPS)
    for _ in range(12):
        scheduler.step(2.0)
        old_scheduler.step(2.0)
        agree(old, new)
    assert old.param_groups[0]["lr"] > 4e-3
    again = split(old)
    twice = repoint(copy.deepcopy(scheduler), again, [(index, 1.0) for index in range(len(GROUPS))])
    twice.step(2.0)  # type: ignore[arg-type]
    agree(old, again)


def test_a_plateau_takes_groups_that_came_later() -> None:
    old = optimizers()
    old_scheduler = ReduceLROnPlateau(old, factor=0.5, patience=0, min_lr=1e-3)
    old.add_param_group({"params": [nn.Parameter(torch.ones(2))], "lr": 0.01})
    groups = [
        {**group, "lr": 0.5 * group["lr"], "params": [nn.Parameter(torch.ones(2))]} for group in old.param_groups
    ]
    new = SGD(groups, lr=0.01)
    scheduler = repoint(old_scheduler, new, [(index, 0.5) for index in range(3)])
    for _ in range(12):
        scheduler.step(2.0)  # type: ignore[arg-type]
        old_scheduler.step(2.0)
        assert [group["lr"] for group in new.param_groups] == pytest.approx(
            [0.5 * group["lr"] for group in old.param_groups]
        )
    assert new.param_groups[2]["lr"] == pytest.approx(5e-4)
    lambdas = LambdaLR(old, lambda step: 1.0)
    old.add_param_group({"params": [nn.Parameter(torch.ones(2))], "lr": 0.01})
    with pytest.raises(
        UnsupportedModelError, match=r"the LambdaLR was made before its optimizer got its last parameter group"
    ):
        check_scheduler(lambdas, old)


def test_one_threshold_for_all_groups_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lr_schedulers, "BY_GROUP", {})
    with pytest.raises(AssertionError):
        test_a_plateau_stops_reducing_where_it_did()
