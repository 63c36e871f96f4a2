"""Where a model in memory is not what its config says: the modules that compute something else, and
what is different about them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from growth.proof.outputs import forward
from growth.proof.rounding import epsilon, gaps, product_epsilon, same_values
from growth.proof.settings import attributes, config_fields, hooks, methods

ROUNDED = 8.0
"""Machine epsilons by which the output of a module may differ if it only rounds in another way."""


@dataclass(frozen=True)
class Origin:
    """A module that returns something else than its partner on the same inputs, while every module
    inside it returns the same.

    Args:
        name: of the module; empty for the model itself.
        epsilons: how far it is off: the RMS over the features of a position, at the position that
            is furthest off, in machine epsilons of the RMS of its output.
        settings: its attributes, buffers and hooks that the config does not give it.
        replaced: whether its class or its ``forward`` is another, in words.
    """

    name: str
    epsilons: float
    settings: tuple[str, ...]
    replaced: tuple[str, ...]

    @property
    def foreign(self) -> bool:
        """Whether this is another function, and not the same one rounded in another way. Where a
        setting differs and the output does, the one is the cause of the other, however small."""
        return bool(self.settings) or not self.epsilons <= ROUNDED


@dataclass
class _Frame:
    """A call under way: what went in, and whether a module inside it returned something else."""

    arguments: Any = ()
    keywords: Any = field(default_factory=dict)
    differs: bool = False


def origins(model: PreTrainedModel, same: PreTrainedModel, inputs: Mapping[str, Any]) -> list[Origin]:
    """Where a model departs from its class built anew, in the order of execution.

    Every module of ``same`` is run on what its partner got, so that a difference shows where it
    arises and not wherever it arrives.

    Args:
        model: the caller's. What goes into a module is taken before its own hooks change it, and
            what comes out after.
        same: its class built anew, on the same weights.
        inputs: keyword arguments of their ``forward``.
    """
    parts = dict(same.named_modules())
    pairs = {name: (module, parts[name]) for name, module in model.named_modules() if name in parts}
    settings = {name: (*attributes(*pair), *hooks(*pair)) for name, pair in pairs.items()}
    frames, found, least = [_Frame()], [], product_epsilon(model)

    def enter(module: nn.Module, arguments: Any, keywords: Any) -> None:
        frames.append(_Frame(_copied(arguments), _copied(keywords)))

    def leave(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def compare(module: nn.Module, arguments: Any, output: Any) -> None:
            frame, partner = frames.pop(), parts[name]
            expected, again = (
                list(_tensors(partner(*_copied(frame.arguments), **_copied(frame.keywords)))) for _ in range(2)
            )
            returned = list(_tensors(output))
            if _equal(expected, returned):
                return
            frames[-1].differs = True
            if not frame.differs:
                # A module that does not repeat itself differs without a cause.
                causes = settings[name] if _equal(expected, again) else ()
                off = _epsilons(expected, returned, max(epsilon(partner), least))
                found.append(Origin(name, off, causes, tuple(_replaced(module, partner))))

        return compare

    handles = []
    for name, (module, _) in pairs.items():
        handles.append(module.register_forward_pre_hook(enter, prepend=True, with_kwargs=True))
        handles.append(module.register_forward_hook(leave(name)))
    try:
        # Hidden states are left out: transformers would collect those of the partners among them.
        forward(model, inputs, inner=False)
    finally:
        for handle in handles:
            handle.remove()
    return found


def torch_settings(model: nn.Module, same: nn.Module) -> list[str]:
    """The attributes of modules of torch itself that are not what the config says: a run does not
    change those."""
    return unseen(model, same, torch_only=True)


def edited(model: nn.Module, same: nn.Module) -> bool:
    """Whether a model has code that its class does not have: hooks, modules, methods."""
    parts = dict(same.named_modules())
    return any(
        name not in parts
        or hooks(module, parts[name])
        or methods(module, parts[name])
        or list(_replaced(module, parts[name]))
        for name, module in model.named_modules()
    )


def unseen(model: nn.Module, same: nn.Module, *, torch_only: bool = False) -> list[str]:
    """The attributes of all modules that are not what the config says, such as
    ``model.layers.0.self_attn.attention_dropout is 0.3, by the config 0.0``."""
    parts = dict(same.named_modules())
    return [
        f"{name}.{said}".lstrip(".")
        for name, module in model.named_modules()
        if name in parts and (not torch_only or type(module).__module__.startswith("torch.nn."))
        for said in (*attributes(module, parts[name]), *config_fields(module, model, parts[name], same))
    ]


def _epsilons(expected: list[Tensor], returned: list[Tensor], eps: float) -> float:
    """How far the outputs of a module are off, as in `Origin`; infinite if they have other shapes or
    are whole numbers that differ."""
    if [value.shape for value in expected] != [value.shape for value in returned]:
        return float("inf")
    off = 0.0
    for one, other in zip(expected, returned, strict=True):
        if same_values(one, other):
            continue
        if not one.is_floating_point():
            return float("inf")
        unit = max(eps, torch.finfo(one.dtype).eps) * float(one[one.isfinite()].double().square().mean().sqrt())
        off = max(
            off, float(gaps(torch.atleast_1d(one), torch.atleast_1d(other)).max()) / unit if unit > 0 else float("inf")
        )
    return off


def _replaced(module: nn.Module, same: nn.Module) -> Iterator[str]:
    """In which way a module is not of the class of its partner."""
    one, other = type(module), type(same)
    if one is not other:
        distinct = one.__name__ != other.__name__
        named = [kind.__name__ if distinct else f"{kind.__module__}.{kind.__name__}" for kind in (one, other)]
        yield f"it is {named[0]}, by the config {named[1]}"
    if "forward" in vars(module):
        yield "its forward was replaced"


def _equal(some: list[Tensor], others: list[Tensor]) -> bool:
    return len(some) == len(others) and all(map(same_values, some, others))


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (Mapping, tuple, list)):
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(entry)


def _copied(value: Any) -> Any:
    """Arguments with their tensors and caches copied, since a module may write into them."""
    if isinstance(value, (Tensor, Cache)):
        return copy.deepcopy(value.detach() if isinstance(value, Tensor) else value)
    if type(value) in (tuple, list):
        return type(value)(_copied(entry) for entry in value)
    return {name: _copied(entry) for name, entry in value.items()} if type(value) is dict else value
