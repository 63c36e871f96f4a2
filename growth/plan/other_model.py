"""The sizes of another model, for ``like=``: from a folder, a hub id, a ``config.json`` or a
config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import PreTrainedConfig

from growth import architectures
from growth.architectures.sizes import read_sizes, standard_sizes
from growth.errors import CheckpointError, IllegalGrowthError
from growth.hf.config_json import read_json
from growth.hf.configs import parse
from growth.plan.options import Like


def sizes_of(model: Like) -> dict[str, int]:
    """The sizes of another model, by name; of a family that nobody declared, those of any
    Transformer."""
    if isinstance(model, Mapping) and "model_type" not in model:
        for name, value in model.items():
            if isinstance(value, bool) or not isinstance(value, int):
                raise IllegalGrowthError(
                    f"like holds {name} {value!r}, which is no size. Use whole numbers, or a config with its "
                    "model_type."
                )
        return dict(model)
    raw = _raw(model)
    parsed = parse(raw)
    model_type = str(raw["model_type"])
    if model_type in architectures.known():
        return architectures.find(model_type).at(parsed).read_sizes(parsed)
    return read_sizes(standard_sizes(), parsed, model_type)


def _raw(model: Like) -> dict[str, Any]:
    if isinstance(model, PreTrainedConfig):
        return model.to_dict()
    if isinstance(model, Mapping):
        return dict(model)
    path = Path(model)
    if path.is_dir():
        path = path / "config.json"
    if not path.exists():
        try:
            path = Path(hf_hub_download(str(model), "config.json"))
        except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise CheckpointError(
                f"'{model}' is neither a folder, a config.json nor a model the hub would give. Check the spelling and "
                "the network."
            ) from error
    raw = read_json(path)
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} does not hold a JSON object. Name the config.json of a model.")
    return raw
