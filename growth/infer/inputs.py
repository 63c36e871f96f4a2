"""Inputs for a model of an unknown class: what is tried, one after the other."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import torch
from transformers import PreTrainedModel

from growth.errors import FOREIGN_ERRORS
from growth.infer.fields import all_sections, entries
from growth.proof.inputs import Inputs, random_inputs

ROWS, LENGTH = 2, 11
MARKS = ("token_type_ids", "attention_mask")
"""Inputs beside token ids that a class may read in its own way."""


def inputs_to_try(model: PreTrainedModel, vocabulary: int) -> Iterator[Inputs]:
    """Random inputs that a model may take, those that say most first.

    Args:
        model: its class decides.
        vocabulary: token ids are below it.

    Yields:
        Keyword arguments of ``forward``: all that `growth.proof.inputs.random_inputs` makes; token
        ids alone; fewer of what stands beside them; several rows of ids for each text, where a
        config counts codebooks.
    """
    taken = inspect.signature(type(model).forward).parameters
    try:
        found = random_inputs(model, vocabulary)
    except FOREIGN_ERRORS:
        found = {}
    if found:
        yield found
    text = {name: value for name, value in found.items() if not value.is_floating_point()}
    if "input_ids" not in text:
        text = _text(taken, vocabulary, ROWS)
    if "lang_ids" in taken:
        text["lang_ids"] = torch.zeros(ROWS, dtype=torch.long)
    if text.keys() != found.keys():
        yield text
    for count in range(1, len(MARKS) + 1):
        left = {name: value for name, value in text.items() if name not in MARKS[:count]}
        if len(left) < len(text):
            yield left
    for _, section in all_sections(model.config):
        if type(books := entries(section).get("num_codebooks")) is int and books > 1:
            ids = _text(taken, vocabulary, ROWS * books)
            yield {name: value for name, value in ids.items() if name != "attention_mask"}


def _text(taken: object, vocabulary: int, rows: int) -> Inputs:
    """Token ids, and what a class takes of a mask and the ids of a decoder."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, vocabulary - 1, (rows, LENGTH), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, : LENGTH // 3] = 0
    every = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": ids.roll(1, 1)}
    return {name: value for name, value in every.items() if name in taken}  # type: ignore[operator]
