"""Exact arithmetic: run a stock model wholly in float64.

Model code hard-codes float32 (norms, rotary tables, softmax), so that a ``.double()`` model still
bottoms out near 1e-6. This mode turns every request for a narrower float into one for float64,
while a model is built and while it runs; a right growth then differs by some 1e-14 and a wrong one
by its own size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_NARROW = frozenset({torch.float32, torch.float16, torch.bfloat16})


_CASTS: dict[Any, torch.dtype] = {
    Tensor.float: torch.float64,
    Tensor.half: torch.float64,
    Tensor.bfloat16: torch.float64,
}


_TYPES = frozenset({"torch.FloatTensor", "torch.HalfTensor", "torch.BFloat16Tensor", torch.FloatTensor})


class ExactArithmetic(TorchFunctionMode):
    """While active, no tensor is made in or cast to a float narrower than float64."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _CASTS:
            return args[0].to(_CASTS[func])
        kwargs = {name: _widened(value) for name, value in (kwargs or {}).items()}
        result = func(*(_widened(value) for value in args), **kwargs)
        if func is torch.tensor and result.dtype in _NARROW:
            return result.to(torch.float64)
        return result


def _widened(value: Any) -> Any:
    if isinstance(value, torch.dtype):
        return torch.float64 if value in _NARROW else value
    if isinstance(value, (str, type)) and value in _TYPES:
        return torch.float64
    return value


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Everything inside runs in float64: new tensors, casts, tables, softmax."""
    before, narrow = torch.get_default_dtype(), torch.FloatTensor
    torch.set_default_dtype(torch.float64)
    torch.FloatTensor = torch.DoubleTensor  # type: ignore[assignment, misc]  # a constructor that asks no function mode (XLNet's parameters)
    try:
        with ExactArithmetic():
            yield
    finally:
        torch.set_default_dtype(before)
        torch.FloatTensor = narrow  # type: ignore[misc]
