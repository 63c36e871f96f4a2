"""The devices that tests of ``tests/gpu`` run on: the CPU, in the slow suite, so that their bodies are known to run,
and a GPU where there is one (`make test-gpu`)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

GPU = pytest.param("cuda", marks=pytest.mark.gpu)
DEVICES = (pytest.param("cpu", marks=pytest.mark.slow), GPU)


def on_cpu(model: Any) -> Any:
    """A copy of a model, on the CPU."""
    return copy.deepcopy(model).to("cpu")


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names under which two dictionaries of tensors and numbers do not hold the same bits, on whatever device."""
    return sorted({*one} ^ {*other}) + [name for name in one if name in other and not same(one[name], other[name])]


def same(one: Any, other: Any) -> bool:
    """Whether two values have the same dtype, shape and bits."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return type(one) is type(other) and bool(one == other)
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(bits(one), bits(other))


def bits(value: Tensor) -> Tensor:
    """The bytes of a tensor, on the CPU."""
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
