"""Whether a config makes a model that runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from growth.errors import FOREIGN_ERRORS, GrowthError, UnsupportedModelError
from growth.hf.configs import config_to_build
from growth.hf.expected_tensors import without_weights
from growth.hf.model_classes import class_of
from growth.infer.inputs import inputs_to_try
from growth.proof.float64 import exact_arithmetic
from growth.proof.inputs import Inputs
from growth.proof.miniature import VOCABULARY, build_exact
from growth.proof.outputs import forward

MOST_PARAMETERS = 64_000_000
"""The largest model that is built on the way to a miniature: a second's work."""

FAILED = (*FOREIGN_ERRORS, RuntimeError, NotImplementedError)
"""What a class raises for sizes or inputs that it does not take."""


class TooLargeError(UnsupportedModelError):
    """A model at small sizes is still too large to be run in a second."""


def run(raw: Mapping[str, Any], known: Inputs | None = None) -> Inputs:
    """Build the model of a small config in exact arithmetic, with the weights that its class draws,
    and run it.

    Args:
        raw: the config.
        known: inputs that the model takes; by default they are found by trying.

    Returns:
        Inputs that it takes.

    Raises:
        TooLargeError: if it has more than `MOST_PARAMETERS`.
        Exception: whatever its class raises, for the first inputs.
    """
    with torch.no_grad():
        count = sum(weight.numel() for weight in without_weights(config_to_build(raw), class_of(raw)).parameters())
    if count > MOST_PARAMETERS:
        raise TooLargeError(f"the miniature has {count:,} parameters")
    first: BaseException | None = None
    with exact_arithmetic(), torch.no_grad():
        model = build_exact(raw)
        said = getattr(model.config.get_text_config(), "vocab_size", None)
        vocabulary = min(VOCABULARY, said if type(said) is int else VOCABULARY)
        for inputs in (known,) if known is not None else inputs_to_try(model, vocabulary):
            try:
                outputs = forward(model, inputs, inner=False)
                if not all(bool(value.isfinite().all()) for value in outputs.values()):
                    raise UnsupportedModelError("its outputs are not finite")
                return inputs
            except (GrowthError, *FAILED) as error:
                first = first or error
    raise first or UnsupportedModelError("its class takes no inputs that are known")
