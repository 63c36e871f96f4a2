"""A learning-rate warm-up of the new coordinates alone, in the steps after growth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from growth.arguments import check_count, check_kind
from growth.errors import IllegalGrowthError
from growth.hf.custom_modules import as_transformers
from growth.hf.tensor_names import from_disk
from growth.plan.plan import TensorPlan
from growth.training.model import Grown


@dataclass(frozen=True)
class Warmup:
    """A warm-up in progress. It ends by itself after its steps; ``remove()`` ends it at once."""

    handles: tuple[RemovableHandle, ...]

    def remove(self) -> None:
        """End the warm-up: from now on all coordinates move at the full rate."""
        for handle in self.handles:
            handle.remove()


def fresh_warmup(grown: Grown[Any], steps: int) -> Warmup:
    """Ramp up the updates of new coordinates linearly over the next steps of the grown optimizer.

    New coordinates start with a reduced step that grows linearly, so that the trained weights are
    not disturbed; this is learning-rate warm-up restricted to new coordinates. At step t (1, 2,
    ...) after growth their update is multiplied by ``t / steps``. The old block keeps its learning
    rate.

    A weight is new unless it belongs to the first copy of an old coordinate along every dimension
    of its tensor. The warm-up works through hooks on the optimizer, and keeps a copy of every grown
    parameter during each step. It does not survive another growth, which makes a new optimizer.

    Args:
        grown: a growth that included its optimizer.
        steps: number of steps until new coordinates move at the full rate; at least 1.

    Returns:
        The warm-up, to end it early.

    Raises:
        IllegalGrowthError: no optimizer in ``grown``, or fewer than 1 step.

    Example:
        >>> grown = growth.widen(model, width=2, noise=1.0, optimizer=optimizer, moments="fresh")
        >>> warmup = fresh_warmup(grown, 100)       # step 1: 1 % of the new coordinates' update
        >>> for batch in batches:
        ...     train_step(grown.model, grown.optimizer, batch)

    References:
        Goyal et al. 2017, arXiv 1706.02677, section 2.2, for warm-up of a whole model.
    """
    check_kind("grown", grown, Grown, "what growth.widen returned")
    steps, optimizer = check_count("steps", steps), grown.optimizer
    if optimizer is None:
        raise IllegalGrowthError(
            "a warm-up needs the grown optimizer. Give growth.widen the old one: "
            "growth.widen(model, optimizer=optimizer)."
        )
    held = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    masks = {parameter: new for parameter, new in _new_weights(grown).items() if parameter in held}
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


def _new_weights(grown: Grown[Any]) -> dict[Tensor, Tensor]:
    """Parameter -> which of its weights are new, for parameters that have any."""
    stock = as_transformers(grown.model) or grown.model
    masks = from_disk(stock, {name: ~_old_block(tensor) for name, tensor in grown.plan.tensors.items()})
    found = {name: parameter for name, parameter in stock.named_parameters() if name in masks}
    return {parameter: masks[name].to(parameter.device) for name, parameter in found.items() if masks[name].any()}


def _old_block(tensor: TensorPlan) -> Tensor:
    """Of the grown tensor's shape: which weights are first copies along every dimension."""
    old = torch.ones(tensor.new_shape, dtype=torch.bool)
    for axis, d in enumerate(tensor.dimensions):
        old &= torch.from_numpy(d.first_copies).reshape([-1 if i == axis else 1 for i in range(old.ndim)])
    return old
