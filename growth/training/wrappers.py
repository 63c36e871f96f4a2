"""What training wraps around a model, an optimizer or a scheduler: taken off where that loses
nothing, otherwise refused with what to do instead."""

from __future__ import annotations

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from growth.errors import UnsupportedModelError

_DATA_PARALLEL = "Widen its .module, on every rank with the same choices, and wrap the result again."


_SHARDED = "Save a full checkpoint, grow that (grow widen SRC DST), and shard the model you load from it."


_REMEDIES = {
    **dict.fromkeys(("DistributedDataParallel", "DataParallel"), _DATA_PARALLEL),
    **dict.fromkeys(("FullyShardedDataParallel", "FSDPModule", "DeepSpeedEngine"), _SHARDED),
}
"""Name of a class that wraps a model -> what to do with such a model."""


_ADAPTERS = "Merge them first (peft's merge_and_unload()), widen the result, and add new adapters to that."


def uncompiled(model: nn.Module) -> nn.Module:
    """The model that ``torch.compile`` was given, or the model itself.

    The two share all parameters, so an optimizer of one is an optimizer of the other.
    """
    while type(model).__module__.startswith("torch._dynamo") and isinstance(
        inner := getattr(model, "_orig_mod", None), nn.Module
    ):
        model = inner
    return model


def check_unwrapped(model: object) -> None:
    """Refuse what is not a model, or is wrapped, sharded or compiled in parts, or has adapters.

    Raises:
        UnsupportedModelError: saying what to do instead.
    """
    name = type(model).__name__
    if not isinstance(model, nn.Module):
        raise UnsupportedModelError(
            f"{name} is not a model. Load one first, for example with AutoModelForCausalLM.from_pretrained."
        )
    for kind in type(model).__mro__:
        if kind.__name__ in _REMEDIES:
            raise UnsupportedModelError(f"{name} wraps a model in {kind.__name__}. {_REMEDIES[kind.__name__]}")
    if any(type(module).__module__.partition(".")[0] == "peft" for module in model.modules()):
        raise UnsupportedModelError(f"this {name} has adapters (PEFT). {_ADAPTERS}")
    for path, module in model.named_modules():
        if uncompiled(module) is not module:
            raise UnsupportedModelError(
                f"'{path}' of this {name} is compiled separately, by torch.compile(module). Use module.compile(), "
                "which compiles in place."
            )
    for name, parameter in model.named_parameters():
        if type(parameter.data).__name__ == "DTensor":
            raise UnsupportedModelError(f"'{name}' is a DTensor, which is sharded. {_SHARDED}")


def check_bare(wrapper: object, field: str, kind: type[Optimizer] | type[LRScheduler]) -> None:
    """Refuse an optimizer or scheduler that wraps another one, as accelerate's do.

    Args:
        wrapper: what the caller gave.
        field: the attribute in which a wrapper holds the other one: ``optimizer`` or ``scheduler``.
        kind: `Optimizer` or `LRScheduler`.

    Raises:
        UnsupportedModelError: saying what to give instead.
    """
    inner = getattr(wrapper, field, None)
    if isinstance(inner, kind) and type(wrapper).__module__.partition(".")[0] != "torch":
        name = type(wrapper).__name__
        raise UnsupportedModelError(
            f"{name} wraps the {type(inner).__name__} in its .{field}. Give that one, and wrap the grown one again; "
            "inside a Trainer callback, stop and grow the saved checkpoint instead (grow widen SRC DST --optimizer)."
        )
