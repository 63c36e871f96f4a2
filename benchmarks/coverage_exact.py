"""Exact arithmetic for `coverage.py`, its own and not the library's: every cast to a float narrower than 64 bits is
one to 64 bits."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

EXACT = 1e-9
"""The largest difference of outputs that counts as none."""

_NARROW = {torch.float32, torch.float16, torch.bfloat16}


class Float64(TorchFunctionMode):
    """While open, nothing is narrower than float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16):
            return args[0].double()
        args = tuple(_wide(value) for value in args)
        return func(*args, **{name: _wide(value) for name, value in (kwargs or {}).items()})


def _wide(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value in _NARROW else value


def load(model_class: type[PreTrainedModel], folder: Path) -> tuple[PreTrainedModel, list[str]]:
    """A model from the disk in float64, and the names that were missing or not expected."""
    torch.set_default_dtype(torch.float64)
    with Float64():
        model, info = model_class.from_pretrained(folder, dtype=torch.float64, output_loading_info=True)
    with suppress(Exception):  # where it has no experts
        model.set_experts_implementation("eager")
    model = model.to(torch.float64).eval()
    if type(model).__name__.startswith("XLNet"):  # makes its parameters in float32, whatever the dtype
        model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    return model, sorted({*info["missing_keys"], *info["unexpected_keys"]})


_NAMES = ("logits", "prediction_logits", "logits_per_image", "last_hidden_state", "pooler_output", "text_embeds")
_NAMES += ("image_embeds", "hidden_states", "encoder_last_hidden_state")


def run(model: PreTrainedModel, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """The outputs that are compared."""
    taken = inspect.signature(type(model).forward).parameters
    more = {"use_cache": False} if "use_cache" in taken or "kwargs" in taken else {}
    torch.manual_seed(0)  # some draw what they were not given
    with torch.no_grad(), Float64():
        result = model(**inputs, **more)
    found = {name: result[name] for name in _NAMES if name in result and isinstance(result[name], Tensor)}
    return found or {"first": result[0]}


def difference(small: Tensor, wide: Tensor) -> float:
    """The largest difference of two outputs; infinity where shapes do not fit, or a value is NaN.

    Where the last dimension has grown, every new coordinate must be an old one up to a factor of its own, and every
    old one must be there."""
    if small.shape != wide.shape:
        if small.shape[:-1] != wide.shape[:-1] or wide.shape[-1] < small.shape[-1]:
            return float("inf")
        small, wide = small.reshape(-1, small.shape[-1]), wide.reshape(-1, wide.shape[-1])
        directions = [one / one.norm(dim=0).clamp_min(1e-300) for one in (small, wide)]
        alike = (directions[0].T @ directions[1]).abs()  # [old coordinates, new coordinates]
        if not bool((alike.amax(1) > 1 - EXACT).all() | (small == 0).all()):
            return float("inf")
        nearest = alike.argmax(0)
        small = small[:, nearest]
        wide = wide * ((small * wide).sum(0) / (wide * wide).sum(0).clamp_min(1e-300))
    worst = float((small - wide).abs().max())
    return worst if worst == worst else float("inf")
