"""What the caller asks for, as an extension."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from transformers import PreTrainedModel

from growth.architectures.architecture import Architecture
from growth.errors import IllegalGrowthError
from growth.extension.extension import Extension, Shapes, unextended
from growth.extension.layers import with_more_layers
from growth.extension.request import Request, counts_layers
from growth.extension.stacks import LAYERS, LayerList, layer_lists, no_such_list
from growth.extension.untied import with_own_head
from growth.hf.configs import Config


def extend(
    config: Config,
    shapes: Shapes,
    architecture: Architecture,
    model_class: type[PreTrainedModel],
    request: Request,
) -> Extension | None:
    """The extension that the caller asks for; None if he asks for none.

    Args:
        config, shapes: of the model.
        architecture: the declaration at that config.
        model_class: its class.
        request: what it is to have more of.

    Raises:
        IllegalGrowthError: if it cannot have that.
    """
    result = unextended(config, shapes)
    if request.untie:
        result = result.then(with_own_head(config, shapes, architecture, model_class))
    if asked := {name: size for name, size in request.sizes.items() if counts_layers(name)}:
        lists = layer_lists(config, architecture, model_class)
        for layers, wanted in _numbers(asked, lists, config, model_class).values():
            step = with_more_layers(
                result.new,
                result.new_shapes,
                architecture,
                model_class,
                lists,
                layers,
                wanted,
                request.insert,
                request.silent,
            )
            result = result.then(step)
            lists = [one if one != layers else replace(one, count=wanted) for one in lists]
    return result if result.sizes or result.untied else None


def _numbers(
    asked: Mapping[str, int | str], lists: list[LayerList], config: Config, model_class: type[PreTrainedModel]
) -> dict[str, tuple[LayerList, int]]:
    """List of layers -> the list and its new length, for those that become longer."""
    found: dict[str, tuple[LayerList, int]] = {}
    for name, size in asked.items():
        named = [one for one in lists if name in (one.size, one.field) or (name == LAYERS and len(lists) == 1)]
        if not named:
            raise IllegalGrowthError(no_such_list(name, lists, config, model_class))
        layers, wanted = named[0], named[0].count if size == "keep" else int(size)
        if wanted < layers.count:
            raise IllegalGrowthError(
                f"cannot reduce {name} from {layers.count} to {wanted}: a model with fewer layers computes another "
                f"function. Name at least {layers.count}."
            )
        if found.get(layers.name, (layers, wanted))[1] != wanted:
            raise IllegalGrowthError(f"{name} is named twice, with different values. Name it once.")
        found[layers.name] = (layers, wanted)
    return {name: pair for name, pair in found.items() if pair[1] > pair[0].count}
