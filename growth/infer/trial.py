"""Whether a config makes a model that runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from growth.errors import UnsupportedModelError
from growth.hf.configs import config_to_build
from growth.hf.expected_tensors import without_weights
from growth.hf.model_classes import class_of
from growth.proof.class_inputs import Inputs
from growth.proof.float64 import exact_arithmetic
from growth.proof.inputs import random_inputs
from growth.proof.miniature import VOCABULARY, build_exact, loud
from growth.proof.unknown_inputs import check_finite

MOST_PARAMETERS = 64_000_000
"""The largest model that is built on the way to a miniature: a second's work."""


class TooLargeError(UnsupportedModelError):
    """A model at small sizes is still too large to be run in a second."""


def run(raw: Mapping[str, Any], known: Inputs | None = None, most: int = MOST_PARAMETERS) -> Inputs:
    """Build the model of a small config in exact arithmetic, with weights under which everything
    matters, and run it.

    Args:
        raw: the config.
        known: inputs that the model takes; by default they are found by trying
            (`growth.proof.unknown_inputs`).
        most: parameters that it may have.

    Returns:
        Inputs that it takes.

    Raises:
        TooLargeError: if it has more than ``most``.
        Exception: whatever its class raises, for the first inputs.

    Example:
        >>> raw = {"model_type": "llama", "architectures": ["LlamaModel"], "num_hidden_layers": 1, "vocab_size": 48}
        >>> size = {"hidden_size": 32, "intermediate_size": 24, "num_attention_heads": 2, "num_key_value_heads": 2}
        >>> [*run({**raw, **size})]
        ['input_ids', 'attention_mask']
    """
    with torch.no_grad():
        count = sum(weight.numel() for weight in without_weights(config_to_build(raw), class_of(raw)).parameters())
    if count > most:
        raise TooLargeError(f"the miniature has {count:,} parameters")
    with exact_arithmetic(), torch.no_grad():
        model = build_exact(raw)
        if known is not None:
            check_finite(model, known)
            return known
        loud(model)
        said = getattr(model.config.get_text_config(), "vocab_size", None)
        return random_inputs(model, min(VOCABULARY, said if type(said) is int else VOCABULARY))
