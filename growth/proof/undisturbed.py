"""Running a model that belongs to the caller, and leaving no trace of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from growth.errors import UnsupportedModelError
from growth.hf.dtensors import local
from growth.proof.rounding import same_values

_OF_STATE = ("_state_dict_pre_hooks", "_load_state_dict_pre_hooks")
"""What no forward pass needs: FSDP puts its own there in the first, once and for all."""


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
    dictionaries = [
        value for own in owned for name, value in own.items() if isinstance(value, dict) and name not in _OF_STATE
    ]
    before = [(each, dict(each)) for each in (*owned, *dictionaries)]
    buffers = [(buffer, _version(buffer), buffer.clone()) for buffer in model.buffers()]
    for own in owned:
        own["training"] = False
        own["_compiled_call_impl"] = None
        if "_original_forward" in own:  # accelerate has replaced it by one under autocast
            own["forward"] = own["_original_forward"]
    try:
        with generators_kept(model):
            yield
    finally:
        for each, entries in before:
            each.clear()
            each.update(entries)
        with torch.no_grad():
            for buffer, version, value in buffers:
                if _version(buffer) != version:
                    buffer.copy_(value)


@contextmanager
def weights_kept(model: nn.Module, *, copies: bool) -> Iterator[None]:
    """Inside, a model is run that may write into its weights, as a hook that limits their norm does.

    Args:
        model: whose weights are to stay.
        copies: compare them with copies, and put them back; otherwise torch's counters of changes in
            place have to do, which code of transformers' own does not evade by ``.data``.

    Raises:
        UnsupportedModelError: at the end, naming a weight that was changed.
    """
    before = [
        (name, weight, _version(weight), local(weight.detach()).clone() if copies else None)
        for name, weight in model.named_parameters()
    ]
    changed = []
    try:
        yield
    finally:
        with torch.no_grad():
            for name, weight, version, value in before:
                if _version(weight) != version or (value is not None and not same_values(local(weight), value)):
                    changed.append(name)
                    if value is not None:
                        local(weight).copy_(value)
    if changed:
        raise UnsupportedModelError(
            f"running this {type(model).__name__} changes its weight '{changed[0]}', so it is not one function. "
            "Remove what does that (a hook, a forward that was replaced), and add it to the wider model again."
        )


def _version(value: torch.Tensor) -> int:
    """How often a tensor was changed in place; a tensor made in inference mode does not count."""
    return 0 if value.is_inference() else value._version


@contextmanager
def generators_kept(model: nn.Module) -> Iterator[None]:
    """Put back the states of Python's, numpy's and torch's generators, on the model's devices too."""
    held = {value.device.index or 0 for value in model.parameters() if value.is_cuda}
    devices = sorted(held | {torch.cuda.current_device()} if torch.cuda.is_initialized() else held)
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
