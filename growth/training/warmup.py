"""A warm-up of the new coordinates alone, in the steps after a growth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from growth.errors import IllegalGrowthError
from growth.hf.custom_modules import as_transformers
from growth.hf.tensor_names import from_disk
from growth.plan.plan import TensorPlan
from growth.training.model import Grown


@dataclass(frozen=True)
class Warmup:
    """A warm-up under way. ``remove()`` ends it."""

    handles: tuple[RemovableHandle, ...]

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()


def fresh_warmup(grown: Grown[Any], steps: int) -> Warmup:
    """Updates of new coordinates times t / steps at the t-th step after growth, those of the old
    block as they are.

    New is every coordinate but the first copy of each old one, along any dimension. What has just
    been born so follows what is trained before it leads, as a warm-up of the learning rate does for
    a whole model (Goyal et al. 2017, arXiv 1706.02677, section 2.2); the old block keeps its
    learning rate. Keeps a copy of each grown parameter over every step, until the warm-up is over.
    Another growth ends it.

    Args:
        grown: a growth with its optimizer.
        steps: how many steps until new coordinates move at full rate.

    Raises:
        IllegalGrowthError: without an optimizer, or for a number of steps below 1.
    """
    optimizer = grown.optimizer
    if optimizer is None or steps < 1:
        raise IllegalGrowthError(
            "a warm-up needs at least one step and the grown optimizer: growth.widen(model, optimizer=optimizer)."
        )
    held = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    masks = {parameter: new for parameter, new in _new_coordinates(grown).items() if parameter in held}
    before: dict[Tensor, Tensor] = {}
    taken = 0

    def keep(*_: Any) -> None:
        before.update({parameter: parameter.detach().clone() for parameter in masks})

    @torch.no_grad()
    def hold_back(*_: Any) -> None:
        nonlocal taken
        taken += 1
        for parameter, new in masks.items():
            rate = torch.where(new, taken / steps, 1.0).to(parameter.dtype)
            parameter.copy_(torch.lerp(before[parameter], parameter, rate.expand_as(parameter)))
        before.clear()
        if taken >= steps:
            warmup.remove()

    warmup = Warmup((optimizer.register_step_pre_hook(keep), optimizer.register_step_post_hook(hold_back)))
    return warmup


def _new_coordinates(grown: Grown[Any]) -> dict[Tensor, Tensor]:
    """Parameter -> which of its weights are new, for those that have any."""
    stock = as_transformers(grown.model) or grown.model
    masks = from_disk(stock, {name: ~_old_block(tensor) for name, tensor in grown.plan.tensors.items()})
    found = {name: parameter for name, parameter in stock.named_parameters() if name in masks}
    return {parameter: masks[name].to(parameter.device) for name, parameter in found.items() if masks[name].any()}


def _old_block(tensor: TensorPlan) -> Tensor:
    old = torch.ones(tensor.new_shape, dtype=torch.bool)
    for axis, d in enumerate(tensor.dimensions):
        old &= torch.from_numpy(d.first_copies).reshape([-1 if i == axis else 1 for i in range(old.ndim)])
    return old
