"""Inputs for a model of a class that nobody declared: what is tried, one after the other."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator

import torch
from transformers import PreTrainedModel

from growth.architectures.registry import is_declared
from growth.errors import FOREIGN_ERRORS, GrowthError, UnsupportedModelError
from growth.hf.nested import nested_sections, plain_fields
from growth.proof.class_inputs import Inputs, padded_inputs
from growth.proof.modal_inputs import modal_inputs
from growth.proof.outputs import forward

RAW = (
    "pixel_values",
    "input_features",
    "input_values",
    "pixel_values_images",
    "image_pixel_values",
    "flattened_patches",
)
"""Names of inputs that hold images or sounds."""


def reads_more_than_text(model: PreTrainedModel | type[PreTrainedModel]) -> bool:
    """Whether a class that nobody declared reads text, and images or sounds as well: then its inputs have both."""
    kind = model if isinstance(model, type) else type(model)
    taken = inspect.signature(kind.forward).parameters
    named = getattr(kind.config_class, "model_type", "")
    reads_text = "input_ids" in taken or "decoder_input_ids" in taken
    return reads_text and any(name in taken for name in RAW) and not is_declared(named)


def reads_raw(kind: type[PreTrainedModel]) -> bool:
    """Whether a class reads images or sounds."""
    return not {*RAW}.isdisjoint(inspect.signature(kind.forward).parameters)


MARKS = ("token_type_ids", "attention_mask")
"""Inputs beside token ids that a class may read in its own way."""


def inputs_to_try(
    model: PreTrainedModel, vocabulary: int, *, batch: int = 2, length: int = 11, seed: int = 0
) -> Iterator[Inputs]:
    """Random inputs that a model may take, those that say most first.

    Args:
        model: its class decides.
        vocabulary, batch, length, seed: as for `growth.proof.inputs.random_inputs`.

    Yields:
        Keyword arguments of ``forward``: text with images or sounds, for a class that reads both; what
        a declared class of that signature would get; token ids alone; fewer of what stands beside
        them; several rows of ids for each text, where a config counts codebooks; images or sounds
        alone.
    """
    taken = inspect.signature(type(model).forward).parameters
    if reads_more_than_text(model):
        yield modal_inputs(model, seed=seed + length)
        return
    try:
        found = padded_inputs(model, vocabulary, batch=batch, length=length, seed=seed)
    except FOREIGN_ERRORS:
        found = {}
    if found:
        yield found
    text = {name: value for name, value in found.items() if not value.is_floating_point()}
    if "input_ids" not in text:
        text = _text(taken, vocabulary, batch, length, seed)
    if "lang_ids" in taken:
        text["lang_ids"] = torch.zeros(batch, dtype=torch.long)
    if text and text.keys() != found.keys():
        yield text
    for count in range(1, len(MARKS) + 1):
        left = {name: value for name, value in text.items() if name not in MARKS[:count]}
        if left and len(left) < len(text):
            yield left
    for section in nested_sections(model.config).values():
        if type(books := plain_fields(section).get("num_codebooks")) is int and books > 1:
            ids = _text(taken, vocabulary, batch * books, length, seed)
            yield {name: value for name, value in ids.items() if name != "attention_mask"}
    if reads_raw(type(model)):
        yield modal_inputs(model, seed=seed + length)


def inputs_that_run(
    model: PreTrainedModel, vocabulary: int, *, batch: int = 2, length: int = 11, seed: int = 0
) -> Inputs:
    """The first of `inputs_to_try` under which a model computes finite numbers.

    Args:
        model: in eval mode, with weights.
        vocabulary, batch, length, seed: as for `growth.proof.inputs.random_inputs`.

    Raises:
        Exception: whatever the class raises for the first inputs, if it takes none.
    """
    first: Exception | None = None
    with torch.no_grad():
        for inputs in inputs_to_try(model, vocabulary, batch=batch, length=length, seed=seed):
            try:
                check_finite(model, inputs)
                return inputs
            except (GrowthError, *FOREIGN_ERRORS) as error:
                first = first or error
    raise first or UnsupportedModelError(
        f"{type(model).__name__} takes no inputs that are known. Give them as inputs=."
    )


def check_finite(model: PreTrainedModel, inputs: Inputs) -> None:
    """Run a model.

    Raises:
        UnsupportedModelError: if an output is infinite or NaN.
        Exception: whatever its class raises.
    """
    outputs = forward(model, inputs, inner=False)
    if not all(bool(value.isfinite().all()) for value in outputs.values()):
        raise UnsupportedModelError(f"the outputs of {type(model).__name__} are not finite. Give other inputs.")


def _text(taken: Collection[str], vocabulary: int, batch: int, length: int, seed: int) -> Inputs:
    """Token ids, and what a class takes of a mask and the ids of a decoder."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, vocabulary - 1, (batch, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, : length // 3] = 0
    every = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": ids.roll(1, 1)}
    return {name: value for name, value in every.items() if name in taken}
