"""What a config field counts whose name does not say it, by what changes when it is doubled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from growth.architectures.sizes import size_at
from growth.errors import FOREIGN_ERRORS, GrowthError
from growth.hf.config_json import edited
from growth.hf.configs import Config, config_to_build
from growth.hf.expected_tensors import without_weights
from growth.infer.counts import with_counts
from growth.infer.meanings import Kind

Shapes = Mapping[str, tuple[type[nn.Module], tuple[int, ...]]]
"""Name of a parameter -> the type of its module, and its shape."""


def unknown_kind(config: Mapping[str, Any], model_class: type[PreTrainedModel], path: str) -> Kind:
    """What a field counts, found by building the class at twice its value.

    Args:
        config: of the model.
        model_class: to build.
        path: of the field.

    Returns:
        ``width`` where it changes the dimensions of matrices, other than the rows of an embedding
        and the extent of a convolution; else ``kept``.

    Example:
        >>> from transformers import LlamaForCausalLM
        >>> unknown_kind({"model_type": "llama"}, LlamaForCausalLM, "intermediate_size")
        'width'
    """
    base = Config.of(config)
    few, before = _few(base, model_class)
    if before is None:
        return "kept"
    value = size_at(few.parsed, path)
    if type(value) is not int:
        return "kept"
    try:
        doubled = edited(few, {path: 2 * value}, written=(path,))
        after = shapes(doubled, model_class)
    except (GrowthError, *FOREIGN_ERRORS, RuntimeError):
        return "kept"
    if before.keys() != after.keys():
        return "kept"
    moved = {
        (module, dim)
        for name, (module, shape) in before.items()
        for dim, (old, new) in enumerate(zip(shape, after[name][1], strict=False))
        if old != new
    }
    return "width" if moved and not any(_counts(module, dim) for module, dim in moved) else "kept"


def _counts(module: type[nn.Module], dim: int) -> bool:
    """Whether a dimension is no feature: the rows of an embedding, the extent of a convolution."""
    convolves = issubclass(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
    return (issubclass(module, (nn.Embedding, nn.EmbeddingBag)) and dim == 0) or (convolves and dim > 1)


def few_shapes(config: Mapping[str, Any], model_class: type[PreTrainedModel]) -> Shapes | None:
    """The shapes of the user's model with few layers and its own widths; None where no such model can be
    built, as with defaults of a config class that do not fit each other.

    Args:
        config: of the model.
        model_class: of the model.

    Example:
        >>> from transformers import LlamaForCausalLM
        >>> few_shapes({"model_type": "llama"}, LlamaForCausalLM)["model.norm.weight"][1]
        (4096,)
    """
    return _few(Config.of(config), model_class)[1]


def _few(base: Config, model_class: type[PreTrainedModel]) -> tuple[Config, Shapes | None]:
    """The config with few layers, and its shapes."""
    if "few layers" not in base.derived:
        try:
            few = with_counts(base)
            base.derived["few layers"] = few, shapes(few, model_class)
        except (GrowthError, *FOREIGN_ERRORS, RuntimeError):
            base.derived["few layers"] = base, None
    found: tuple[Config, Shapes | None] = base.derived["few layers"]
    return found


def shapes(config: Mapping[str, Any], model_class: type[PreTrainedModel]) -> Shapes:
    """Name of a parameter -> the type of its module, and its shape.

    Example:
        >>> from transformers import LlamaModel
        >>> shapes({"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 32}, LlamaModel)["norm.weight"][1]
        (32,)
    """
    with torch.no_grad():
        model = without_weights(config_to_build(config), model_class)
    return {
        name: (type(model.get_submodule(name.rpartition(".")[0])), tuple(weight.shape))
        for name, weight in model.named_parameters()
    }
