"""Weights that an optimizer's step is to leave alone, or to move by a part: what they were is kept
before the step, and mixed into what they are after it.

That holds for any optimizer, whatever it does to a weight whose gradient is zero: weight decay,
momentum from earlier steps, factored second moments, fused kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

Mix = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Hooks:
    """Hooks in place. ``remove()`` takes them away; as a context manager they go at its end."""

    handles: tuple[RemovableHandle, ...]

    def remove(self) -> None:
        """Take the hooks away; what they did is over. A second time does nothing."""
        for handle in self.handles:
            handle.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class Mask:
    """Some of the weights of one parameter, on the device where that is."""

    def __init__(self, chosen: Tensor) -> None:
        self._chosen = chosen

    def on(self, device: torch.device) -> Tensor:
        """The mask on a device, where it then stays."""
        if self._chosen.device != device:
            self._chosen = self._chosen.to(device)
        return self._chosen


class Held:
    """Which weights are held, of which parameters.

    Parameters are known by identity, and weakly: a model that nobody uses any more is freed.

    Args:
        masks: parameter -> True for the weights that are held.
    """

    def __init__(self, masks: Mapping[nn.Parameter, Tensor]) -> None:
        self._masks = WeakTensorKeyDictionary()
        for parameter, chosen in masks.items():
            self._masks[parameter] = Mask(chosen)
        self._before: dict[int, list[tuple[nn.Parameter, Tensor]]] = {}  # by optimizer: one may call another's step

    def release(self) -> None:
        """Hold nothing any more. (A hook must not remove itself: torch iterates over them.)"""
        self._masks.clear()

    @torch.no_grad()
    def keep(self, optimizer: Optimizer) -> None:
        """Before a step: keep what the held weights are."""
        self._before[id(optimizer)] = [
            (parameter, parameter.masked_select(self._masks[parameter].on(parameter.device)))
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter in self._masks
        ]

    @torch.no_grad()
    def put_back(self, optimizer: Optimizer, mix: Mix | None) -> None:
        """After it: give the held weights what ``mix(before, after)`` says; None for what they
        were."""
        for parameter, before in self._before.pop(id(optimizer), ()):
            chosen = self._masks[parameter].on(parameter.device)
            parameter.masked_scatter_(chosen, mix(before, parameter.masked_select(chosen)) if mix else before)


def around_steps(
    held: Held, optimizer: Optimizer | None = None, mix: Mix | None = None
) -> tuple[RemovableHandle, ...]:
    """Hold weights in every step from now on.

    Args:
        held: the weights.
        optimizer: whose steps; None for those of every optimizer, also one that is made later.
        mix: ``(before, after)`` of the held weights of one parameter, as vectors -> what they
            become; by default what they were before, bit for bit.

    Returns:
        The hooks.
    """

    def keep(stepping: Optimizer, *_: Any) -> None:
        held.keep(stepping)

    def put_back(stepping: Optimizer, *_: Any) -> None:
        held.put_back(stepping, mix)

    if optimizer is None:
        return register_optimizer_step_pre_hook(keep), register_optimizer_step_post_hook(put_back)
    return optimizer.register_step_pre_hook(keep), optimizer.register_step_post_hook(put_back)
