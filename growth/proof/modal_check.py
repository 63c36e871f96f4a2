"""Whether an image or a sound in the inputs matters: a comparison of models that ignore it would be
one of their text alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from growth.hf.own_inputs import moved

Outputs = dict[str, Tensor]

LEAST = 1e-9
"""What counts as a change, next to the size of the outputs. Inputs are the same otherwise, so that
without the image there is none at all."""


def outputs_of(model: PreTrainedModel, inputs: Mapping[str, Any]) -> Outputs:
    """The tensors that a model returns, in eval mode and without gradients.

    Args:
        model: any model.
        inputs: keyword arguments of its ``forward``.
    """
    with torch.no_grad():
        result = model(**moved(inputs, model.device, model.dtype))
    return dict(_tensors("", result))


def _tensors(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield name, value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _tensors(f"{name}.{key}" if name else str(key), entry)


def of_text(outputs: Outputs) -> Tensor:
    """The logits, or the first output if there are none."""
    return next((value for name, value in outputs.items() if name == "logits"), next(iter(outputs.values())))


def why_ignored(
    model: PreTrainedModel, inputs: Mapping[str, Any], raw: Collection[str], *, weights: bool = True
) -> str | None:
    """Why the outputs do not depend on an image or a sound; None if they do.

    The model is run again with other values in the raw inputs, and with another weight in the first
    module that reads them. In both runs the logits must change.

    Args:
        model: the model.
        inputs: its inputs.
        raw: names of the inputs that hold images or sounds and what belongs to them. Those of
            floating point are changed.
        weights: whether to run with another weight too, which changes the model for a moment.

    Example:
        >>> why_ignored(text_model, {"input_ids": ids, "pixel_values": pixels}, {"pixel_values"})
        'the outputs are the same with other pixel_values'
    """
    values = [name for name in raw if isinstance(inputs.get(name), Tensor) and inputs[name].is_floating_point()]
    before, seen = _recorded(model, inputs)
    if not before.isfinite().all():
        return "the outputs are not finite"
    changed = {name: _other(inputs[name]) for name in values}
    after, again = _recorded(model, {**inputs, **changed})
    if _same(before, after):
        return f"the outputs are the same with other {', '.join(sorted(values))}"
    if not weights:
        return None
    first = next((name for name in seen if name in again and not _same(seen[name], again[name])), None)
    if first is None:
        return "no module was found that reads them"
    with _disturbed(model.get_submodule(first)):
        other = of_text(outputs_of(model, inputs))
    if _same(before, other):
        return f"the outputs are the same with other weights in {first}"
    return None


def _other(value: Tensor) -> Tensor:
    """Other values of the same size."""
    noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(7), dtype=value.dtype)
    return value + noise * (value != 0)


def _recorded(model: PreTrainedModel, inputs: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    """The logits, and the outputs of all modules with weights of their own, in the order in which
    they were first called."""
    seen: dict[str, Tensor] = {}

    def hook(name: str) -> Any:
        def keep(module: nn.Module, args: Any, result: Any) -> None:
            if name not in seen and isinstance(result, Tensor) and result.is_floating_point():
                seen[name] = result.detach()

        return keep

    own = [(name, module) for name, module in model.named_modules() if any(True for _ in module.parameters(False))]
    handles = [module.register_forward_hook(hook(name)) for name, module in own]
    try:
        return of_text(outputs_of(model, inputs)), seen
    finally:
        for handle in handles:
            handle.remove()


class _disturbed:
    """While open, the first parameter of a module has other values."""

    def __init__(self, module: nn.Module) -> None:
        self.parameter = next(module.parameters(recurse=False))
        self.kept = self.parameter.detach().clone()

    def __enter__(self) -> None:
        noise = torch.randn(self.kept.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
        with torch.no_grad():
            self.parameter.add_(noise.to(self.kept.dtype) * (self.kept.abs().mean() + 0.1))

    def __exit__(self, *_: object) -> None:
        with torch.no_grad():
            self.parameter.copy_(self.kept)


def _same(one: Tensor, two: Tensor) -> bool:
    """Whether two tensors are equal up to rounding."""
    if one.shape != two.shape:
        return False
    return bool((one - two).abs().max() <= LEAST * (1 + one.abs().max())) if one.numel() else True
