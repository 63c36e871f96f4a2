"""Parameters that lie in the same memory without being one parameter."""

from __future__ import annotations

import itertools
from collections import defaultdict

import torch
from torch import Tensor, nn

from growth.errors import UnsupportedModelError
from growth.hf.custom_modules import MODULE
from growth.hf.dtensors import local


def check_memory(model: nn.Module) -> None:
    """Refuse distinct parameters that share elements. A step of the optimizer on one moves the
    other, and in a wider model each would have elements of its own.

    Views of one storage that share no element (the parts of a fused matrix) are fine, and so is one
    parameter under two names, which is a tie.

    Raises:
        UnsupportedModelError: naming two of them.

    Example:
        >>> model.lm_head.weight.data = model.model.embed_tokens.weight.data  # refused
        >>> model.lm_head.weight = model.model.embed_tokens.weight  # a tie
    """
    held: dict[tuple[torch.device, int], list[tuple[str, Tensor]]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        value = local(parameter)
        if not value.is_meta and value.numel() and (address := value.untyped_storage().data_ptr()):
            held[value.device, address].append((name, value))
    for group in held.values():
        group.sort(key=lambda entry: entry[1].data_ptr())
        for (one, view), (other, rest) in itertools.combinations(group, 2):
            if _overlap(view, rest):
                raise UnsupportedModelError(_said(model, one, view, other, rest))


def _overlap(one: Tensor, other: Tensor) -> bool:
    """Whether two views of a storage have an element in common."""
    if any(view.data_ptr() + _extent(view) <= rest.data_ptr() for view, rest in ((one, other), (other, one))):
        return False
    if one.dtype != other.dtype:
        return True
    # Columns of one matrix lie between each other without sharing an element.
    marks = torch.zeros(one.untyped_storage().nbytes() // one.element_size(), dtype=torch.bool)
    marks.as_strided(one.shape, one.stride(), one.storage_offset()).fill_(True)
    return bool(marks.as_strided(other.shape, other.stride(), other.storage_offset()).any())


def _extent(view: Tensor) -> int:
    """Bytes from the first element of a view to the end of its last."""
    steps = sum((size - 1) * stride for size, stride in zip(view.shape, view.stride(), strict=True))
    return (steps + 1) * view.element_size()


def _said(model: nn.Module, other: str, view: Tensor, name: str, value: Tensor) -> str:
    one, two = (each.removeprefix(f"{MODULE}.") for each in (other, name))
    alike = view.data_ptr() == value.data_ptr() and (view.shape, view.stride()) == (value.shape, value.stride())
    tie = f"Tie them by assigning the parameter itself ({two} = {one}), or give" if alike else "Give"
    return (
        f"'{one}' and '{two}' of this {type(model).__name__} are two parameters in the same memory, so that a step on "
        f"one moves the other; in a wider model they would part. {tie} '{two}' its own memory "
        "(parameter.data = parameter.data.clone())."
    )
