"""Whether a config makes a model that runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

from growth.hf.configs import config_to_build
from growth.hf.model_classes import class_of
from growth.proof.float64 import exact_arithmetic
from growth.proof.inputs import Inputs, random_inputs
from growth.proof.miniature import VOCABULARY, build_exact

MOST_PARAMETERS = 60_000_000


def run(raw: Mapping[str, Any]) -> tuple[PreTrainedModel, Inputs]:
    """Build the model of a small config in exact arithmetic and run it.

    Returns:
        The model, and inputs that it takes.

    Raises:
        Exception: whatever its class raises.
    """
    with torch.device("meta"), torch.no_grad():
        count = sum(weight.numel() for weight in class_of(raw)(config_to_build(raw)).parameters())
    if count > MOST_PARAMETERS:
        raise ValueError(f"the miniature has {count:,} parameters")
    with exact_arithmetic(), torch.no_grad():
        model = build_exact(raw)
        vocabulary = min(VOCABULARY, int(getattr(model.config.get_text_config(), "vocab_size", None) or VOCABULARY))
        inputs = random_inputs(model, vocabulary)
        try:
            model(**inputs)
        except Exception:
            text = {name: value for name, value in inputs.items() if not value.is_floating_point()}
            if len(text) == len(inputs) or not text:
                raise
            inputs = text
            model(**inputs)
    return model, inputs
