"""A raw ``config.json`` as the config object of transformers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, PreTrainedConfig

from growth.errors import FOREIGN_ERRORS, UnsupportedModelError

Raw = dict[str, Any]


def parse(raw: Mapping[str, Any]) -> PreTrainedConfig:
    """The config object of a raw config.

    Raises:
        UnsupportedModelError: for a missing or unknown model_type, remote code or values
            transformers rejects.
    """
    model_type = raw.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise UnsupportedModelError(
            'the config has no \'model_type\'. Add the one it was trained with, for example "model_type": "llama".'
        )
    if raw.get("auto_map"):
        raise UnsupportedModelError(
            "the config has 'auto_map', code that comes with the checkpoint, and such code is never executed. "
            "Remove 'auto_map' if the stock class of the same model_type computes the same."
        )
    if quantised := raw.get("quantization_config"):
        method = quantised.get("quant_method", "unknown") if isinstance(quantised, Mapping) else quantised
        raise UnsupportedModelError(
            f"the checkpoint is quantised ({method}); shares of rounded weights are not exact. Widen the original and "
            "quantise the result."
        )
    if model_type not in CONFIG_MAPPING:
        raise UnsupportedModelError(
            f"transformers {transformers.__version__} does not know model_type '{model_type}'. Check the spelling, "
            "upgrade transformers, "
            "or declare it in Python with growth.register."
        )
    try:
        return CONFIG_MAPPING[model_type].from_dict(copy.deepcopy(dict(raw)))
    except (*FOREIGN_ERRORS, StrictDataclassError) as error:
        raise UnsupportedModelError(
            f"transformers cannot parse the config: {str(error)[:300].rstrip('.')}. Check config.json."
        ) from error
