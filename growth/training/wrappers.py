"""What training wraps around a model, an optimizer or a scheduler: taken off where that loses
nothing, otherwise refused with what to do instead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from growth.errors import IllegalGrowthError, UnsupportedModelError
from growth.hf.dtensors import is_sharded
from growth.hf.inner_names import wrapped
from growth.training.ranks import grouped

_DATA_PARALLEL = "Widen its .module, on every rank with the same choices, and wrap the result again."


_SHARDED = "Save a full checkpoint, grow that (grow widen SRC DST), and shard the model you load from it."


_REMEDIES = {
    **dict.fromkeys(("DistributedDataParallel", "DataParallel"), _DATA_PARALLEL),
    "FullyShardedDataParallel": f"{_SHARDED} Models of fully_shard grow as they are (growth.widen(model, shard=...)).",
    "DeepSpeedEngine": _SHARDED,
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
    if wrapped(model) and not is_sharded(model):
        raise UnsupportedModelError(
            f"'{wrapped(model)[0]}' of this {name} is wrapped for activation checkpointing (checkpoint_wrapper), and "
            "the wider model would not be. Grow before the modules are wrapped, or use "
            "model.gradient_checkpointing_enable(), which is kept."
        )
    for path, module in model.named_modules():
        if uncompiled(module) is not module:
            raise UnsupportedModelError(
                f"'{path}' of this {name} is compiled separately, by torch.compile(module). Use module.compile(), "
                "which compiles in place."
            )


@contextmanager
def own_classes(model: nn.Module) -> Iterator[Callable[[], None]]:
    """Inside, the modules of a model have their own classes, which ``fully_shard`` replaces by subclasses
    that cannot be copied.

    Yields:
        What gives every rank its parts of the weights and nothing more, whatever ran before, to its end or
        not; it was called, and is at the end.
    """
    sharded = [(module, type(module)) for module in model.modules() if isinstance(module, FSDPModule)]
    states = [module._get_fsdp_state() for module, _ in sharded]

    def reshard() -> None:
        for (module, kind), state in zip(sharded, states, strict=True):
            _end_forward(state)
            own = type(module)
            module.__class__ = kind
            module.reshard()
            module.__class__ = own

    reshard()
    for module, kind in sharded:
        module.__class__ = kind.__mro__[kind.__mro__.index(FSDPModule) + 1]
    try:
        yield reshard
    finally:
        reshard()
        for module, kind in sharded:
            module.__class__ = kind


def _end_forward(state: Any) -> None:
    """End a forward pass that an error has cut short, for which FSDP waits: it would take the next one for
    its continuation, and gather nothing.

    Args:
        state: FSDP's, of a module. (torch's own reset would drop gradients that are being added up.)
    """
    training = type(state._training_state)
    if state._training_state is not training.FORWARD:
        return
    state._training_state = training.IDLE
    state._modules_to_run_forward.clear()
    if state._state_ctx.iter_forward_root is state:
        state._state_ctx.iter_forward_root = None
    several = hasattr(state, "_fsdp_param_groups")  # one group per module, in older releases
    for group in state._fsdp_param_groups if several else [state._fsdp_param_group]:
        if group is not None and group._training_state is training.FORWARD:
            group._training_state = training.IDLE


def check_shard(model: object, shard: object) -> None:
    """Refuse a sharded model without a function that shards the wider one, and a function that cannot be
    used.

    Raises:
        UnsupportedModelError: a sharded model without ``shard``.
        IllegalGrowthError: ``shard`` is no function, or there is no process group.
    """
    if shard is None:
        check_not_sharded(
            model, "Say how to shard the wider one, on every rank: growth.widen(model, shard=function of a model)."
        )
    elif not callable(shard):
        raise IllegalGrowthError(
            f"shard must be a function that shards a model in place, not {type(shard).__name__}. Give the one that "
            "sharded this model."
        )
    elif not grouped():
        raise IllegalGrowthError(
            "shard= is for a model on several ranks, and there is no process group. Call "
            "torch.distributed.init_process_group first, or leave it out."
        )


def check_not_sharded(model: object, step: str = _SHARDED) -> None:
    """Refuse a model whose parameters ranks hold in parts.

    Args:
        model: the caller's.
        step: what to do instead.
    """
    if isinstance(model, nn.Module) and (
        is_sharded(model) or any(isinstance(module, FSDPModule) for module in model.modules())
    ):
        raise UnsupportedModelError(
            f"this {type(model).__name__} is sharded (fully_shard or DTensor parameters). {step}"
        )


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
