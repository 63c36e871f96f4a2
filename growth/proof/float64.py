"""Exact arithmetic: a transformers model computed entirely in float64.

Model code asks for float32 by name (in norms, rotary tables, softmax), so a model after
``.double()`` still differs by about 1e-6. While `exact_arithmetic` is active, every request for a
narrower float yields float64, both when a model is built and when it runs. A correct growth then
differs by about 1e-14, a wrong one by about the size of the outputs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_NARROW = frozenset({torch.float32, torch.float16, torch.bfloat16})
"""Dtypes that are replaced wherever they are passed as an argument."""


_CASTS = frozenset({Tensor.float, Tensor.half, Tensor.bfloat16})
"""Methods that cast without an argument: ``x.float()``."""


_TYPES = frozenset({"torch.FloatTensor", "torch.HalfTensor", "torch.BFloat16Tensor", torch.FloatTensor})
"""What ``Tensor.type`` accepts for a narrower float."""

_REPLACEABLE = frozenset({torch.dtype, str, type(torch.FloatTensor)})
"""Types of the arguments that may stand for a dtype."""


class _Active(threading.local):
    """Whether `exact_arithmetic` is active in this thread."""

    now = False


_active = _Active()


class ExactArithmetic(TorchFunctionMode):
    """While active, torch functions create no float narrower than float64 and cast to none.

    ``x.float()``, ``x.to(torch.bfloat16)``, ``torch.zeros(3, dtype=torch.float16)`` and
    ``torch.softmax(x, -1, dtype=torch.float32)`` all return float64."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _CASTS:
            return args[0].to(torch.float64)
        # Called for every attribute of every tensor as well: copies are made only where it matters.
        if not _REPLACEABLE.isdisjoint(map(type, args)):
            args = tuple(map(_as_float64, args))
        if kwargs:
            kwargs = {name: _as_float64(value) for name, value in kwargs.items()}
            result = func(*args, **kwargs)
        else:
            result = func(*args)
        if func is torch.tensor and result.dtype in _NARROW:
            # It takes the dtype of the data: torch.tensor(float32 array).
            return result.to(torch.float64)
        return result


def _as_float64(value: Any) -> Any:
    """An argument of a torch function; float64 in place of a narrower dtype or tensor type."""
    if isinstance(value, torch.dtype):
        return torch.float64 if value in _NARROW else value
    if isinstance(value, (str, type)) and value in _TYPES:
        return torch.float64
    return value


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Everything inside runs in float64: new tensors, casts, tables, softmax. The default dtype is
    restored at the end. Inside another one it changes nothing.

    Example:
        >>> with exact_arithmetic():
        ...     torch.ones(2, dtype=torch.float32).half().dtype
        torch.float64
    """
    if _active.now:
        yield
        return
    before, narrow = torch.get_default_dtype(), torch.FloatTensor
    torch.set_default_dtype(torch.float64)
    # XLNet creates parameters with torch.FloatTensor, a constructor that function modes do not see.
    torch.FloatTensor = torch.DoubleTensor  # type: ignore[assignment, misc]
    _active.now = True
    try:
        with ExactArithmetic():
            yield
    finally:
        _active.now = False
        torch.set_default_dtype(before)
        torch.FloatTensor = narrow  # type: ignore[misc]
