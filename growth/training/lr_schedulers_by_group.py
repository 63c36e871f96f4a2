"""Versions of torch's schedulers with one setting per parameter group, where torch has one for all.

Growth multiplies the learning rates of different groups by different factors. A cosine's floor
``eta_min`` is one number, and must follow each of them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts, LRScheduler, ReduceLROnPlateau


def _one_by_one(scheduler: Any, name: str, values: list[float]) -> Iterator[Any]:
    """Copies of a scheduler, one per parameter group: each drives that group alone, with its own
    value for the setting ``name``."""
    for index, (group, value) in enumerate(zip(scheduler.optimizer.param_groups, values, strict=True)):
        single = copy.copy(scheduler)
        vars(single).update({"optimizer": SimpleNamespace(param_groups=[group]), name: value})
        for listed in ("base_lrs", "min_lrs"):
            if listed in vars(scheduler):
                vars(single)[listed] = [vars(scheduler)[listed][index]]
        yield single


class CosineByGroup(CosineAnnealingLR):
    """`CosineAnnealingLR` with one ``eta_min`` per group, in ``floors``.

    Example:
        Made by growth: with ``eta_min=1e-5``, groups with factors 1 and 1/2 have ``floors`` of
        ``[1e-5, 5e-6]``.
    """

    floors: list[float]

    def get_lr(self) -> list[float | Tensor]:
        return [rate for one in _one_by_one(self, "eta_min", self.floors) for rate in CosineAnnealingLR.get_lr(one)]

    def _get_closed_form_lr(self) -> list[float | Tensor]:
        return [
            rate
            for one in _one_by_one(self, "eta_min", self.floors)
            for rate in CosineAnnealingLR._get_closed_form_lr(one)
        ]


class RestartsByGroup(CosineAnnealingWarmRestarts):
    """`CosineAnnealingWarmRestarts` with one ``eta_min`` per group, in ``floors``."""

    floors: list[float]

    def get_lr(self) -> list[float | Tensor]:
        return [
            rate
            for one in _one_by_one(self, "eta_min", self.floors)
            for rate in CosineAnnealingWarmRestarts.get_lr(one)
        ]


class PlateauByGroup(ReduceLROnPlateau):
    """`ReduceLROnPlateau` with one ``eps``, the smallest reduction that is applied, per group, in
    ``epses``."""

    epses: list[float]

    def _reduce_lr(self, epoch: int) -> None:
        for one in _one_by_one(self, "eps", self.epses):
            ReduceLROnPlateau._reduce_lr(one, epoch)


BY_GROUP: dict[type[LRScheduler], tuple[type[LRScheduler], str, str]] = {
    CosineAnnealingLR: (CosineByGroup, "eta_min", "floors"),
    CosineAnnealingWarmRestarts: (RestartsByGroup, "eta_min", "floors"),
    ReduceLROnPlateau: (PlateauByGroup, "eps", "epses"),
}
"""torch's class -> (the class with one setting per group, torch's setting, the list of
settings)."""


LISTS = ("floors", "epses")
"""The lists of settings; all of them are learning rates."""
