"""Reading another model, for ``like=``: from a folder, a hub id, a ``config.json`` or a config."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from transformers import PreTrainedConfig

from growth import architectures
from growth.architectures.registry import is_declared
from growth.architectures.sizes import read_sizes, standard_sizes, value_at
from growth.arguments import whole_number
from growth.errors import CheckpointError, IllegalGrowthError, shown
from growth.extension.request import LAYERS
from growth.hf.config_json import read_json
from growth.hf.configs import Config, check_alike
from growth.hf.folders import check_config
from growth.hf.hub import HUB_ERRORS, hub_error
from growth.hf.paths import local_path
from growth.plan.choices import Like
from growth.plan.like import OtherModel


def other_model(model: Like) -> OtherModel:
    """Another model, with its sizes; where its family is not declared, those that every Transformer
    has.

    Args:
        model: a folder, a hub id, a ``config.json``, a config, or a dictionary: of a config, or of
            sizes.

    Raises:
        GrowthError: if there is no such config, or it holds no sizes.

    Example:
        >>> other_model({"hidden_size": 96}).sizes
        {'hidden_size': 96}
    """
    if isinstance(model, Mapping) and "model_type" not in model:
        for name, value in model.items():
            if not isinstance(name, str) or (whole_number(value) or 0) < 1:
                raise IllegalGrowthError(
                    f"like holds {shown(name)[1:-1]} {shown(value)}, which is no size. Use whole numbers, or a config "
                    "with its model_type."
                )
        return OtherModel({name: int(value) for name, value in model.items()})
    config = Config(config_from(model))
    parsed, model_type = config.parsed, str(config["model_type"])
    if is_declared(model_type):
        check_alike(parsed)
        sizes = architectures.find(model_type).at(parsed).read_sizes(parsed)
    else:
        sizes = read_sizes(standard_sizes(), parsed, model_type)
    layers = whole_number(value_at(parsed, LAYERS))
    return OtherModel({**sizes, **({LAYERS: layers} if layers else {})}, config)


def config_from(model: Like) -> dict[str, Any]:
    """A config as JSON.

    Args:
        model: a folder, a hub id, a ``config.json``, a config, or a dictionary.

    Raises:
        CheckpointError: if there is none.
    """
    if isinstance(model, PreTrainedConfig):
        return model.to_dict()
    if isinstance(model, Mapping):
        return dict(model)
    path = local_path(model)
    if os.path.isdir(path):
        check_config(path)
        path = path / "config.json"
    if not os.path.exists(path):
        try:
            path = Path(hf_hub_download(str(model), "config.json"))
        except HUB_ERRORS as error:
            raise hub_error(str(model), error) from error
    raw = read_json(path)
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} does not hold a JSON object. Name the config.json of a model.")
    return raw
