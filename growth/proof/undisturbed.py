"""Running a model that belongs to the caller, and leaving no trace of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import nn


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Inside, a model is in eval mode and runs as it was written, even where it is compiled in place;
    float32 products are not shortened to TF32. Afterwards the model is as it was before, and so is
    every random generator.

    A forward pass may leave traces: a dynamic rotary embedding replaces its frequencies, a layer
    keeps a cache, transformers adds the hooks by which it collects hidden states. So the attributes
    of every module, what its dictionaries hold (hooks, buffers) and the values of its buffers are
    put back.

    Args:
        model: its hooks run, as they always do.
    """
    owned = [vars(module) for module in model.modules()]
    dictionaries = [value for own in owned for value in own.values() if isinstance(value, dict)]
    before = [(each, dict(each)) for each in (*owned, *dictionaries)]
    buffers = [(buffer, buffer._version, buffer.clone()) for buffer in model.buffers()]
    for own in owned:
        own["training"] = False
        own["_compiled_call_impl"] = None
    try:
        with _generators_kept(model), _full_precision(model):
            yield
    finally:
        for each, entries in before:
            each.clear()
            each.update(entries)
        with torch.no_grad():
            for buffer, version, value in buffers:
                if buffer._version != version:
                    buffer.copy_(value)


@contextmanager
def _generators_kept(model: nn.Module) -> Iterator[None]:
    """Put back the states of Python's, numpy's and torch's generators, on the model's devices too."""
    devices = sorted({value.device.index or 0 for value in model.parameters() if value.is_cuda})
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def _full_precision(model: nn.Module) -> Iterator[None]:
    """Products of float32 in float32, on every device."""
    precision = torch.get_float32_matmul_precision()
    on_cuda = any(value.is_cuda for value in model.parameters())
    convolutions = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
    torch.set_float32_matmul_precision("highest")
    try:
        with convolutions if on_cuda else nullcontext():
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
