"""The tensors a checkpoint of a class must have, those it may have, and which of them are tied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

from growth.architectures.architecture import Architecture
from growth.errors import FOREIGN_ERRORS, CheckpointError, UnsupportedModelError
from growth.hf.configs import Config, config_to_build
from growth.hf.custom_modules import ModuleWrapper
from growth.hf.tensor_names import to_disk

Shapes = Mapping[str, tuple[int, ...]]


def expected_tensors(
    raw: Mapping[str, Any], model_class: type[PreTrainedModel]
) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """The tensors that a checkpoint of a class has on disk, found by building the class on the meta
    device.

    Returns:
        shapes: name on disk -> shape.
        ties: name of a tied tensor -> name of the tensor it shares its values with.

    Raises:
        UnsupportedModelError: if the class cannot be built without weights.

    Example:
        For a Llama config with ``tie_word_embeddings``:

        >>> shapes, ties = expected_tensors(raw, LlamaForCausalLM)
        >>> shapes["model.embed_tokens.weight"], ties
        ((32000, 4096), {'lm_head.weight': 'model.embed_tokens.weight'})
    """
    config = Config.of(raw)
    if model_class not in config.derived:
        config.derived[model_class] = _tensors_of_a_new_model(config, model_class)
    shapes, ties = config.derived[model_class]
    return dict(shapes), dict(ties)


def _tensors_of_a_new_model(
    config: Config, model_class: type[PreTrainedModel]
) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    parsed = config_to_build(config)
    try:
        with torch.device("meta"):
            model = model_class(parsed)
        in_memory, shared = model.state_dict(), model.all_tied_weights_keys or {}
        state = to_disk(model, in_memory)
    except FOREIGN_ERRORS as error:
        raise UnsupportedModelError(
            f"{model_class.__name__} cannot be built on the meta device from the config ({type(error).__name__}: "
            f"{error}). Check config.json"
            + (
                ", and that the constructor reads the value of no tensor (item, tolist)."
                if issubclass(model_class, ModuleWrapper)
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
    """Check the tensors of a checkpoint against those its class expects, and sort them.

    Args:
        raw: the config as JSON.
        shapes: name on disk -> shape, of the tensors the checkpoint has.
        architecture: the declaration at this config.
        model_class: the class named in the config.

    Returns:
        known: names of the tensors to grow.
        left_out: names of buffers that old files hold and the model computes itself.
        tied: name -> canonical names of all tensors tied with it, including its own; only for
            tensors that are tied.

    Raises:
        CheckpointError: for a tensor that is missing, or whose shape differs from the config's.
    """
    expected, ties = expected_tensors(raw, model_class)
    canonical = {name: architecture.canonical(name) for name in shapes}
    present = set(canonical.values())
    wanted = {architecture.canonical(name): shape for name, shape in expected.items()}
    groups = _tied_groups(ties, architecture)
    for name in wanted:
        may_lack = architecture.is_buffer(name) or architecture.is_optional(name)
        if name not in present and not may_lack and not groups.get(name, set()) & present:
            raise CheckpointError(
                f"tensor '{name}' of {model_class.__name__} is missing. Check that 'architectures' in the config "
                "names the class that was saved."
            )
    for name, shape in shapes.items():
        if wanted.get(canonical[name], shape) != tuple(shape):
            raise CheckpointError(
                f"tensor '{name}' has shape {list(shape)}, but the config makes it {list(wanted[canonical[name]])}. "
                "Check the config."
            )
    left_out = [name for name in shapes if architecture.is_buffer(canonical[name])]
    known = [name for name in shapes if name not in left_out]
    tied = {name: frozenset(groups[canonical[name]]) for name in known if canonical[name] in groups}
    return known, left_out, tied


def _tied_groups(ties: Mapping[str, str], architecture: Architecture) -> dict[str, set[str]]:
    """Canonical name -> canonical names of all tensors tied with it, its own among them. A tie may
    join two groups: of ``a = b`` and ``b = c`` all three are one."""
    groups: dict[str, set[str]] = {}
    for target, source in ties.items():
        group = {architecture.canonical(target), architecture.canonical(source)}
        group |= set().union(*(groups.get(member, set()) for member in group))
        groups |= {member: group for member in group}
    return groups


def not_saved(model_class: type[PreTrainedModel], names: Iterable[str]) -> list[str]:
    """Those of ``names`` that ``save_pretrained`` of this class leaves out, sorted."""
    return sorted(set(model_class._keys_to_ignore_on_save or ()) & set(names))
