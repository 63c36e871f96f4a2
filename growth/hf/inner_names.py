"""Modules and tensors of a model by the names they have without the wrappers that activation checkpointing
puts around modules (torch's ``checkpoint_wrapper``), which a state dict does not know either."""

from __future__ import annotations

from torch import Tensor, nn

_WRAPPED = "_checkpoint_wrapped_module"


def inner_name(name: str) -> str:
    """
    Example:
        >>> inner_name("layers.0._checkpoint_wrapped_module.mlp.weight")
        'layers.0.mlp.weight'
    """
    return ".".join(part for part in name.split(".") if part != _WRAPPED) if _WRAPPED in name else name


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """Name -> module; of a wrapper, what it wraps."""
    return {inner_name(name): module for name, module in model.named_modules()}


def parameters_of(model: nn.Module, *, remove_duplicate: bool = True) -> dict[str, nn.Parameter]:
    """Name -> parameter, as ``model.named_parameters`` has them."""
    named = model.named_parameters(remove_duplicate=remove_duplicate)
    return {inner_name(name): parameter for name, parameter in named}


def buffers_of(model: nn.Module) -> dict[str, Tensor]:
    """Name -> buffer."""
    return {inner_name(name): buffer for name, buffer in model.named_buffers()}


def wrapped(model: nn.Module) -> list[str]:
    """The names of the modules that are wrapped."""
    return [name.removesuffix(f".{_WRAPPED}") for name, _ in model.named_modules() if name.endswith(_WRAPPED)]
