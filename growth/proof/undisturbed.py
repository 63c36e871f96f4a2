"""Running a model that belongs to the caller, and leaving no trace of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Inside, a model is in eval mode and runs as it was written, even where it is compiled in place
    or prepared by accelerate for mixed precision.
    Afterwards it is as it was before, and so is every random generator.

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
        if "_original_forward" in own:  # accelerate has replaced it by one under autocast
            own["forward"] = own["_original_forward"]
    try:
        with _generators_kept(model):
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
