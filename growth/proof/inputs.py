"""Random inputs for a model of any class: tokens, pixels, spectrograms."""

from __future__ import annotations

from collections.abc import Iterator

from transformers import PreTrainedConfig, PreTrainedModel

from growth.architectures.registry import is_declared
from growth.hf.custom_modules import ModuleWrapper
from growth.hf.own_inputs import moved
from growth.hf.own_modules import OwnWrapper
from growth.proof.class_inputs import Inputs, padded_inputs
from growth.proof.modal_inputs import modal_inputs
from growth.proof.unknown_inputs import inputs_that_run, inputs_to_try, reads_more_than_text


def random_inputs(
    model: PreTrainedModel, vocabulary: int, *, batch: int = 2, length: int = 11, seed: int = 0
) -> Inputs:
    """Random inputs that use what the model can distinguish: padding, and two token segments.

    Args:
        model: decides which inputs there are, by its class and config.
        vocabulary: token ids are drawn from ``2 .. vocabulary - 2``.
        batch: number of rows. The first is padded, on the left; on the right for a registered
            module.
        length: tokens in a row.
        seed: of the token ids.

    Returns:
        Keyword arguments of ``model.forward``: ``input_ids [batch, length]``, ``attention_mask``,
        ``token_type_ids``, ``decoder_input_ids``, ``pixel_values``, ... (`class_inputs`). For a class that
        nobody declared, the first of `inputs_to_try` under which it runs.
    """
    if isinstance(model, OwnWrapper):
        return model.draw(batch=batch, length=length, seed=seed)
    if isinstance(model, ModuleWrapper) or is_declared(model.config.model_type):
        return padded_inputs(model, vocabulary, batch=batch, length=length, seed=seed)
    return inputs_that_run(model, vocabulary, batch=batch, length=length, seed=seed)


TRIED = ((2, 11), (1, 5))
"""Rows and tokens of the inputs for a real model. The second are for those that take one row at a
time (a classifier whose config has no padding token), or few tokens."""


def few_inputs(model: PreTrainedModel) -> Iterator[Inputs]:
    """Random inputs for a model of any size, on its device and in its dtype: the first that should do,
    then others to try.

    Args:
        model: token ids are below its ``vocab_size``, or below 8 if its config does not say.
    """
    if isinstance(model, OwnWrapper):
        yield moved(model.draw(batch=TRIED[0][0], length=TRIED[0][1], seed=0), model.device, model.dtype)
        return
    if reads_more_than_text(model):
        yield moved(modal_inputs(model, weights=False), model.device, model.dtype)
        return
    vocabulary = int(getattr(model.config.get_text_config(), "vocab_size", None) or 8)
    for batch, length in TRIED:
        length = min(length, most_tokens(model.config))
        declared = isinstance(model, ModuleWrapper) or is_declared(model.config.model_type)
        make = _only if declared else inputs_to_try
        for inputs in make(model, vocabulary, batch=batch, length=length, seed=0):
            if batch == 1 and "attention_mask" in inputs:
                inputs["attention_mask"].fill_(1)
            yield moved(inputs, model.device, model.dtype)


def _only(model: PreTrainedModel, vocabulary: int, *, batch: int, length: int, seed: int) -> Iterator[Inputs]:
    yield padded_inputs(model, vocabulary, batch=batch, length=length, seed=seed)


def most_tokens(config: PreTrainedConfig) -> int:
    """How many tokens a row may have at least, by the number of positions in a config; 128 where it
    says nothing."""
    read = config.get_text_config()
    fields = ("max_position_embeddings", "n_positions", "max_target_positions")
    positions = next((value for name in fields if (value := int(getattr(read, name, None) or 0)) > 0), 128)
    padding = int(getattr(read, "pad_token_id", None) or 0)
    # Some families number positions from the padding id on, so that many fewer are usable.
    return max(2, positions - 2 - (padding if 0 < padding < positions // 2 else 0))
