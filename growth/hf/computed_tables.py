"""Tables of sinusoids that a checkpoint may lack, because its class computes them
(`Architecture.computed`).

They depend on the width: a wider model would compute different ones. A widened checkpoint therefore
stores the tables of the small model, grown."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from growth import architectures
from growth.architectures.architecture import Architecture
from growth.architectures.registry import is_declared
from growth.errors import FOREIGN_ERRORS, UnsupportedModelError
from growth.hf.configs import config_to_build, parse
from growth.hf.fitting import fitted
from growth.hf.model_classes import class_of
from growth.hf.reader import Checkpoint


def completed(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint under the names its class expects (`growth.hf.fitting`), with the tables it lacks
    added as tensors, with the values ``from_pretrained`` would give them. A checkpoint that lacks
    none is returned as it is.

    Raises:
        UnsupportedModelError: if the class cannot compute them from the config.
    """
    checkpoint = fitted(checkpoint)
    model_type = str(checkpoint.config.get("model_type"))
    if not is_declared(model_type) or not architectures.find(model_type).computed:
        return checkpoint
    architecture = architectures.find(model_type).at(parse(checkpoint.config))
    present = {architecture.canonical(name) for name in checkpoint.shapes}
    values = _compute(checkpoint, architecture, present)
    readers = {name: values.__getitem__ for name in values}
    return replace(
        checkpoint,
        shapes={**checkpoint.shapes, **{name: tuple(value.shape) for name, value in values.items()}},
        dtypes={**checkpoint.dtypes, **{name: value.dtype for name, value in values.items()}},
        _readers={**checkpoint._readers, **readers},
    )


def _compute(checkpoint: Checkpoint, architecture: Architecture, present: set[str]) -> dict[str, Tensor]:
    """The computed parameters that are not ``present``, by name."""
    model_class = class_of(checkpoint.config)
    values: dict[str, Tensor] = {}
    try:
        with torch.device("meta"):
            model = model_class(config_to_build(checkpoint.config))
        for name in model.state_dict():
            canonical = architecture.canonical(name)
            if architecture.is_computed(canonical) and canonical not in present:
                values[name] = _initial(model, name)
    except FOREIGN_ERRORS as error:
        raise UnsupportedModelError(
            f"transformers cannot compute the tables that the checkpoint of this {model_class.__name__} lacks "
            f"({type(error).__name__}: {error}). Check config.json."
        ) from error
    return values


def _initial(model: PreTrainedModel, name: str) -> Tensor:
    """One parameter of a model on the meta device, with the value the class initialises it to; in
    float32 where the class would use a narrower float."""
    owner, _, last = name.rpartition(".")
    model.get_submodule(owner).to_empty(device="cpu", recurse=False)
    parts = owner.split(".")
    with torch.random.fork_rng(devices=[]):
        # `_init_weights` handles some parameters at the module itself, others at a module above it.
        for end in range(len(parts), -1, -1):
            model._init_weights(model.get_submodule(".".join(parts[:end])))
    value: Tensor = getattr(model.get_submodule(owner), last).detach()
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
