"""What training puts around a model: taken off where nothing is lost by it, else refused by name,
with what to do for now."""

from __future__ import annotations

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from growth.errors import UnsupportedModelError

SHARDED = "Save a full checkpoint, grow that (grow widen SRC DST), and shard the model you load from it."


AGAIN = "Widen its .module, on every rank with the same choices, and wrap the result again."


REMEDIES = {"DistributedDataParallel": AGAIN, "DataParallel": AGAIN}


REMEDIES |= {"FullyShardedDataParallel": SHARDED, "FSDPModule": SHARDED, "DeepSpeedEngine": SHARDED}
"""Name of a class -> what to do with a model that is one."""


ADAPTERS = "Merge them first (peft's merge_and_unload()), widen the result, and add new ones to that."


def uncompiled(model: nn.Module) -> nn.Module:
    """What ``torch.compile`` was given. It shares all its parameters, so an optimizer of the one is
    an optimizer of the other."""
    while type(model).__module__.startswith("torch._dynamo") and isinstance(
        inner := getattr(model, "_orig_mod", None), nn.Module
    ):
        model = inner
    return model


def check_unwrapped(model: object) -> None:
    """Raise UnsupportedModelError, with what to do, for what is no model, or one that is wrapped,
    sharded, or holds adapters."""
    name = type(model).__name__
    if not isinstance(model, nn.Module):
        raise UnsupportedModelError(
            f"{name} is no model. Load it first, e.g. with AutoModelForCausalLM.from_pretrained."
        )
    for kind in type(model).__mro__:
        if kind.__name__ in REMEDIES:
            raise UnsupportedModelError(f"{name} is a model under {kind.__name__}. {REMEDIES[kind.__name__]}")
    if any(type(module).__module__.partition(".")[0] == "peft" for module in model.modules()):
        raise UnsupportedModelError(f"this {name} holds adapters (PEFT). {ADAPTERS}")
    for path, module in model.named_modules():
        if uncompiled(module) is not module:
            raise UnsupportedModelError(
                f"'{path}' of this {name} is compiled by itself. Use its .compile(), which leaves it in place."
            )
    for name, parameter in model.named_parameters():
        if type(parameter.data).__name__ == "DTensor":
            raise UnsupportedModelError(f"'{name}' is a DTensor, which lies in shards. {SHARDED}")


def check_bare(wrapper: object, field: str, kind: type[Optimizer] | type[LRScheduler]) -> None:
    """Raise UnsupportedModelError for an optimizer or scheduler that drives another one, as
    accelerate's do."""
    inner = getattr(wrapper, field, None)
    if isinstance(inner, kind) and type(wrapper).__module__.partition(".")[0] != "torch":
        name = type(wrapper).__name__
        raise UnsupportedModelError(
            f"{name} wraps the {type(inner).__name__} in its .{field}. Give that, and wrap the grown one again."
        )
