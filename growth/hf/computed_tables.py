"""Parameters that a class computes where a checkpoint lacks them (`Architecture.computed`): tables
of sinusoids.

They depend on the width, so a wider model would compute others. A widened checkpoint therefore
holds the old ones, grown."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from growth import architectures
from growth.architectures.architecture import Architecture
from growth.errors import FOREIGN_ERRORS, UnsupportedModelError
from growth.hf.configs import parse
from growth.hf.model_classes import class_of
from growth.hf.reader import Checkpoint


def completed(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint and whatever its class would compute to make up for what it lacks, as
    ``from_pretrained`` does."""
    model_type = str(checkpoint.config.get("model_type"))
    if model_type not in architectures.known() or not architectures.find(model_type).computed:
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
    model_class = class_of(checkpoint.config)
    values: dict[str, Tensor] = {}
    try:
        with torch.device("meta"):
            model = model_class(parse(checkpoint.config))
        for name in model.state_dict():
            canonical = architecture.canonical(name)
            if architecture.is_computed(canonical) and canonical not in present:
                values[name] = _initial(model, name)
    except FOREIGN_ERRORS as error:
        raise UnsupportedModelError(
            f"transformers cannot compute what the checkpoint of this {model_class.__name__} lacks "
            f"({type(error).__name__}: {error}). "
            "Check config.json."
        ) from error
    return values


def _initial(model: PreTrainedModel, name: str) -> Tensor:
    """One parameter of a model on the meta device, as the class initialises it."""
    owner, _, last = name.rpartition(".")
    model.get_submodule(owner).to_empty(device="cpu", recurse=False)
    parts = owner.split(".")
    with torch.random.fork_rng(devices=[]):
        for end in range(len(parts), -1, -1):  # the module itself, or one that holds it, knows what belongs there
            model._init_weights(model.get_submodule(".".join(parts[:end])))
    value: Tensor = getattr(model.get_submodule(owner), last).detach()
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
