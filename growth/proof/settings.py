"""What of a module in memory is not what its config says: attributes, buffers, methods and hooks that
were put there by hand, compared with those of its partner in a model built anew
(`growth.proof.foreign`)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from growth.hf.custom_modules import MODULE
from growth.hf.dtensors import whole
from growth.proof.rounding import same_values

_PLAIN = (bool, int, float, str, torch.dtype, type(None))
"""Types whose values are compared as they are."""

_OPAQUE = object()
"""Stands for a value that is not compared."""

_MODES = frozenset({"training", "gradient_checkpointing", "p"})
"""Attributes that the grown model takes over."""

GRADIENT_SETTINGS = ("padding_idx", "scale_grad_by_freq", "sparse")
"""Attributes of ``nn.Embedding`` that decide which gradient its weight gets; the grown model takes
them over."""

_SIZES = "vocab_size|in_features|out_features|num_embeddings|embedding_dim"
HARMLESS = re.compile(
    r"([^ ]*\.)?"
    rf"(\w*drop\w*|layer_idx|layer_id|padding_idx|pad_token_id|inplace|name_or_path|use_kernels|{_SIZES}) is "
)
"""Attributes that do not change what a model computes: those of dropout do nothing in eval mode,
sizes describe a weight (and are left behind where it is resized), a padding id is set in many a
config after loading, and a layer's number is where its keys lie in a cache (layers that were taken
out leave gaps). Where a model computes with one after all, the run shows it."""

_HOOK_TABLE = re.compile(r"_(forward|backward|state_dict|load_state_dict)(_pre|_post)?_hooks")
_HOOKS = {"_forward_hooks": "a forward hook", "_forward_pre_hooks": "a forward pre-hook"}


def attributes(module: nn.Module, same: nn.Module) -> list[str]:
    """The attributes and buffers of a module that are not what the config says. Weights are not
    compared, nor what the grown model takes over."""
    own, new, found = vars(module), vars(same), []
    kept = {*_MODES, *(GRADIENT_SETTINGS if isinstance(module, nn.Embedding) else ())}
    for name in new.keys() & own.keys() - kept:
        held, given = _comparable(own[name]), _comparable(new[name])
        # What was None may be a cache that a run filled.
        compared = given is not _OPAQUE and not (held is _OPAQUE and given is None) and not name.startswith("_")
        if compared and held != given:
            found.append(f"{name} is {_shown(own[name])}, by the config {_shown(new[name])}")
    found += _set_by_hand(module, same)
    for name, buffer in same._buffers.items():
        held = module._buffers.get(name)
        if buffer is not None and held is not None and not _close(whole(held), whole(buffer)):
            found.append(f"{name} is not the one of the config")
    return sorted(found)


def methods(module: nn.Module, same: nn.Module) -> list[str]:
    """The methods of a module's class that it has of its own and its partner has not. A ``forward``
    is none of them: the run shows what that does."""
    own, kind = vars(module), type(module)
    return [
        name
        for name in sorted(own.keys() - vars(same).keys() - {"forward"})
        if callable(own[name])
        and not isinstance(given := getattr(kind, name, _OPAQUE), property)
        and given is not _OPAQUE
    ]


def _hook_counts(module: nn.Module) -> Counter[str]:
    """Kind of hook -> how many a module has, without those by which transformers collects hidden
    states, which a run puts there for good, and those by which torch shards, which are for the caller to add."""
    return Counter(
        key
        for key, table in vars(module).items()
        if _HOOK_TABLE.fullmatch(key)
        for hook in table.values()
        if not str(getattr(hook, "__module__", "")).startswith(("transformers.utils.", "torch.distributed."))
    )


def not_kept(model: nn.Module, same: nn.Module) -> list[str]:
    """The hooks of a model's modules and weights, and its methods that are not the class's. They may
    do anything to the gradients, or be a library's, such as ``model.to`` with a warning."""
    parts, found = dict(same.named_modules()), []
    pairs = [(name, module, parts[name]) for name, module in model.named_modules() if name in parts]
    for name, module, partner in pairs:
        whose = name.removeprefix(MODULE).lstrip(".") or "the model"
        for key in _hook_counts(module) - _hook_counts(partner):
            found.append(f"{whose} has a {key.strip('_').removesuffix('s').replace('_', ' ')}")
        found += [f"{whose} has a {method} of its own" for method in methods(module, partner)]
    for name, weight in model.named_parameters():
        if weight._backward_hooks or weight._post_accumulate_grad_hooks:
            found.append(f"{name.removeprefix(f'{MODULE}.')} has a gradient hook")
    return found


def _set_by_hand(module: nn.Module, same: nn.Module) -> Iterator[str]:
    """The attributes that only the model has and its class reads: in place of a constant of the class,
    or through a property that keeps its value under the name with an underscore
    (``model.loss_function = ...``)."""
    own, kind = vars(module), type(module)
    for name in sorted(own.keys() - vars(same).keys() - _MODES):
        read = name.removeprefix("_")
        given = getattr(kind, read, _OPAQUE)
        if given is _OPAQUE or (name != read and not isinstance(given, property)) or callable(given):
            continue
        built = getattr(same, read, _OPAQUE)
        held, value = _comparable(own[name]), _comparable(built)
        if held != value and value is not _OPAQUE:
            yield f"{read} is {_shown(own[name])}, by the config {_shown(built)}"


def config_fields(module: nn.Module, model: nn.Module, partner: nn.Module, same: nn.Module) -> list[str]:
    """Where a module has a config of its own instead of the model's, the fields that differ."""
    held, whole = vars(module).get("config"), vars(model).get("config")
    shared = vars(partner).get("config") is vars(same).get("config")
    if (
        held is whole
        or not shared
        or not isinstance(held, PreTrainedConfig)
        or not isinstance(whole, PreTrainedConfig)
    ):
        return []
    own, given = held.to_dict(), whole.to_dict()
    return [
        f"config.{field} is {_shown(own.get(field))}, by the model's {_shown(given.get(field))}"
        for field in sorted(own.keys() | given.keys())
        if own.get(field) != given.get(field)
    ]


def _comparable(value: Any) -> Any:
    """An attribute's value in a form that equals that of the same value in another model."""
    if isinstance(value, _PLAIN) or type(value) is BuiltinFunctionType:
        return value
    if isinstance(value, FunctionType):
        return value.__code__  # defined in a constructor, it is another object in each model
    if isinstance(value, partial):
        return (
            _comparable(value.func),
            _comparable(value.args),
            tuple(value.keywords),
            _comparable([*value.keywords.values()]),
        )
    if isinstance(value, (tuple, list)):
        return tuple(map(_comparable, value))
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_meta:
        return value.item()
    return _OPAQUE


def _shown(value: Any) -> str:
    return str(getattr(value, "__name__", value))[:60]


def _close(one: Tensor, other: Tensor) -> bool:
    """Whether two buffers are the same table, which may have been worked out in a wider dtype and
    cast."""
    if not other.is_floating_point():
        return same_values(one, other)
    near = 4 * torch.finfo(other.dtype).eps
    return one.shape == other.shape and torch.allclose(one.double(), other.double(), near, near, equal_nan=True)


def hooks(module: nn.Module, same: nn.Module) -> list[str]:
    """Which hooks a module has that its partner has not; transformers adds its own to both."""
    return [f"it has {said}" for name, said in _HOOKS.items() if len(vars(module)[name]) > len(vars(same)[name])]
