"""Schedulers of torch that have one number for all parameter groups, here with one for each."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts, LRScheduler, ReduceLROnPlateau


def _alone(scheduler: Any, name: str, values: list[float]) -> Iterator[Any]:
    """The scheduler of one group after the other, each with a value of its own for its setting
    ``name``."""
    for index, (group, value) in enumerate(zip(scheduler.optimizer.param_groups, values, strict=True)):
        alone = copy.copy(scheduler)
        vars(alone).update({"optimizer": SimpleNamespace(param_groups=[group]), name: value})
        for listed in ("base_lrs", "min_lrs"):
            if listed in vars(scheduler):
                vars(alone)[listed] = [vars(scheduler)[listed][index]]
        yield alone


class CosineByGroup(CosineAnnealingLR):
    """A cosine whose groups have a floor each, ``floors``."""

    floors: list[float]

    def get_lr(self) -> list[float | Tensor]:
        return [rate for alone in _alone(self, "eta_min", self.floors) for rate in CosineAnnealingLR.get_lr(alone)]

    def _get_closed_form_lr(self) -> list[float | Tensor]:
        return [
            rate
            for alone in _alone(self, "eta_min", self.floors)
            for rate in CosineAnnealingLR._get_closed_form_lr(alone)
        ]


class RestartsByGroup(CosineAnnealingWarmRestarts):
    """A cosine with warm restarts whose groups have a floor each, ``floors``."""

    floors: list[float]

    def get_lr(self) -> list[float | Tensor]:
        return [
            rate
            for alone in _alone(self, "eta_min", self.floors)
            for rate in CosineAnnealingWarmRestarts.get_lr(alone)
        ]


class PlateauByGroup(ReduceLROnPlateau):
    """Reductions on a plateau, where each group has a smallest one worth making, ``epses``."""

    epses: list[float]

    def _reduce_lr(self, epoch: int) -> None:
        for alone in _alone(self, "eps", self.epses):
            ReduceLROnPlateau._reduce_lr(alone, epoch)


BY_GROUP: dict[type[LRScheduler], tuple[type[LRScheduler], str, str]] = {
    CosineAnnealingLR: (CosineByGroup, "eta_min", "floors"),
    CosineAnnealingWarmRestarts: (RestartsByGroup, "eta_min", "floors"),
    ReduceLROnPlateau: (PlateauByGroup, "eps", "epses"),
}
"""Scheduler -> the same by group, its setting for all groups, and the name of those by group."""


LISTS = ("floors", "epses")
