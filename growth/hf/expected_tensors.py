"""Which tensors a checkpoint of a class has to have, which it may have, and which of them are one
and the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

from growth.architectures.architecture import Architecture
from growth.errors import FOREIGN_ERRORS, CheckpointError, UnsupportedModelError
from growth.hf.configs import parse
from growth.hf.custom_modules import CustomModel
from growth.hf.tensor_names import to_disk

Shapes = Mapping[str, tuple[int, ...]]


def expected_tensors(
    raw: Mapping[str, Any], model_class: type[PreTrainedModel]
) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Names and shapes of the parameters a checkpoint of the stock class has on disk, and which of
    them it ties to which, found by building it without weights."""
    parsed = parse(raw)
    try:
        with torch.device("meta"):
            model = model_class(parsed)
        in_memory, shared = model.state_dict(), model.all_tied_weights_keys or {}
        state = to_disk(model, in_memory)
    except FOREIGN_ERRORS as error:
        raise UnsupportedModelError(
            f"{model_class.__name__} cannot be built without weights from the config ({type(error).__name__}: "
            f"{error}). Check config.json"
            + (
                ", and that no tensor is read (item, tolist) on the way."
                if issubclass(model_class, CustomModel)
                else "."
            )
        ) from error
    renamed = {id(parameter): name for name, parameter in state.items()}
    on_disk = {name: renamed.get(id(parameter), name) for name, parameter in in_memory.items()}
    ties = {on_disk.get(target, target): on_disk.get(source, source) for target, source in shared.items()}
    return {name: tuple(parameter.shape) for name, parameter in state.items()}, ties


def inventory(
    raw: Mapping[str, Any], shapes: Shapes, architecture: Architecture, model_class: type[PreTrainedModel]
) -> tuple[list[str], list[str], dict[str, frozenset[str]]]:
    """Tensors to grow, tensors to leave out, and for each that is or may be tied the canonical
    names of all that are one with it, its own among them."""
    expected, ties = expected_tensors(raw, model_class)
    canonical = {name: architecture.canonical(name) for name in shapes}
    present = set(canonical.values())
    wanted = {architecture.canonical(name): shape for name, shape in expected.items()}
    partners: dict[str, set[str]] = {}
    for target, source in ties.items():
        group = {architecture.canonical(target), architecture.canonical(source)}
        group |= set().union(*(partners.get(member, set()) for member in group))
        partners |= {member: group for member in group}
    for name in wanted:
        dispensable = (
            architecture.is_buffer(name) or architecture.is_optional(name) or partners.get(name, set()) & present
        )
        if name not in present and not dispensable:
            raise CheckpointError(
                f"tensor '{name}' of {model_class.__name__} is missing. Check that 'architectures' in the config "
                "names "
                "the class that was saved."
            )
    for name, shape in shapes.items():
        if wanted.get(canonical[name], shape) != tuple(shape):
            raise CheckpointError(
                f"tensor '{name}' has shape {list(shape)}, but the config makes it {list(wanted[canonical[name]])}. "
                "Check the config."
            )
    left_out = [name for name in shapes if architecture.is_buffer(canonical[name])]
    known = [name for name in shapes if name not in left_out]
    return (
        known,
        left_out,
        {name: frozenset(partners[canonical[name]]) for name in known if canonical[name] in partners},
    )


def not_saved(model_class: type[PreTrainedModel], names: Iterable[str]) -> list[str]:
    """Those of the parameters that ``save_pretrained`` of this class leaves out."""
    return sorted(set(model_class._keys_to_ignore_on_save or ()) & set(names))
