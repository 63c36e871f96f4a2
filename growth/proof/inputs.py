"""Random inputs for a model of any class: tokens, pixels, spectrograms."""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from growth.architectures.registry import is_declared
from growth.hf.custom_modules import ModuleWrapper
from growth.hf.own_inputs import moved
from growth.hf.own_modules import OwnWrapper

Inputs = dict[str, Tensor]


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
        ``token_type_ids``, ``decoder_input_ids``, ``pixel_values``, ... (`class_inputs`).
    """
    if isinstance(model, OwnWrapper):
        return model.draw(batch=batch, length=length, seed=seed)
    if reads_more_than_text(model):
        from growth.proof.modal_inputs import modal_inputs

        return modal_inputs(model, seed=seed + length)
    ids = torch.randint(2, vocabulary - 1, (batch, length), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones_like(ids)
    mask[0, : length // 3] = 0
    if isinstance(model, ModuleWrapper):
        # In a causal model the first padded token on the left attends to nothing. transformers
        # masks such a row with finite numbers; a module that masks with -inf returns NaN for it.
        mask = mask.flip(1)
    config = model.config.to_dict()
    inputs = class_inputs(type(model), config, ids, mask)
    if "input_ids" in inputs and "token_type_ids" in inspect.signature(type(model).forward).parameters:
        last = max(config.get("type_vocab_size", 2), 1) - 1
        inputs["token_type_ids"] = (
            (torch.arange(length) >= length // 2).long().clamp(max=last).expand_as(inputs["input_ids"])
        )
    return inputs


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
    return "input_ids" in taken and any(name in taken for name in RAW) and not is_declared(named)


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
        from growth.proof.modal_inputs import modal_inputs

        yield moved(modal_inputs(model, weights=False), model.device, model.dtype)
        return
    vocabulary = int(getattr(model.config.get_text_config(), "vocab_size", None) or 8)
    for batch, length in TRIED:
        inputs = random_inputs(model, vocabulary, batch=batch, length=min(length, most_tokens(model.config)))
        if batch == 1 and "attention_mask" in inputs:
            inputs["attention_mask"].fill_(1)
        yield {
            name: value.to(model.device, model.dtype if value.is_floating_point() else None)
            for name, value in inputs.items()
        }


def most_tokens(config: PreTrainedConfig) -> int:
    """How many tokens a row may have at least, by the number of positions in a config; 128 where it
    says nothing."""
    read = config.get_text_config()
    fields = ("max_position_embeddings", "n_positions", "max_target_positions")
    positions = next((value for name in fields if (value := int(getattr(read, name, None) or 0)) > 0), 128)
    padding = int(getattr(read, "pad_token_id", None) or 0)
    # Some families number positions from the padding id on, so that many fewer are usable.
    return max(2, positions - 2 - (padding if 0 < padding < positions // 2 else 0))


def class_inputs(kind: type[PreTrainedModel], config: Mapping[str, Any], ids: Tensor, mask: Tensor) -> Inputs:
    """The inputs of a model class, made from token ids.

    Args:
        kind: the class; the arguments of its ``forward`` decide which inputs there are.
        config: the model's config as a dictionary.
        ids: ``[batch, length]``.
        mask: attention mask ``[batch, length]``.

    Returns:
        Those that the class takes of ``input_ids`` and ``attention_mask`` (``[batch, length]``;
        ``[batch, 2, length]`` for multiple choice), ``decoder_input_ids`` (``ids`` shifted right),
        ``pixel_values [batch, channels, height, width]``, ``bool_masked_pos [batch, patches]`` and
        ``input_features [batch, bins, frames]``.
    """
    taken = inspect.signature(kind.forward).parameters
    decodes = "decoder_input_ids" in taken
    classifies = kind.__name__.endswith("SequenceClassification")
    if (decodes and classifies) or {"input_ids", "pixel_values"} <= taken.keys():
        ids = _ending_at_eos(ids, config.get("text_config") or config)
    inputs = {"input_ids": ids, "attention_mask": mask} if "input_ids" in taken else {}
    inputs |= _raw_inputs(config, taken, len(ids))
    restores = kind.__name__.endswith("MaskedImageModeling") and config["encoder_stride"] == config["patch_size"]
    if "bool_masked_pos" in taken and (config.get("use_mask_token") or restores):
        inputs["bool_masked_pos"] = _masked_patches(inputs["pixel_values"], config["patch_size"])
    if decodes:
        first = _first(config.get("decoder_start_token_id"))
        if first is None or not 0 <= first < config.get("vocab_size", math.inf):
            first = 0
        start = torch.full((len(ids), 1), first)
        inputs["decoder_input_ids"] = torch.cat([start, ids[:, :-1]], dim=1)
    if kind.__name__.endswith("MultipleChoice"):
        inputs = {name: value[:, None].expand(-1, 2, -1).contiguous() for name, value in inputs.items()}
    return inputs


def _ending_at_eos(ids: Tensor, config: Mapping[str, Any]) -> Tensor:
    """``ids`` with exactly one end-of-sequence token in each row, the last: some classes read their
    result there. Unchanged if the config has no such token, or one that the vocabulary does not have
    (SigLIP's default)."""
    eos = _first(config.get("eos_token_id"))
    vocabulary = config.get("vocab_size", math.inf)
    if eos is None or not 0 <= eos < vocabulary:
        return ids
    other = eos + 1 if eos + 1 < vocabulary else eos - 1
    return torch.cat([ids[:, 1:].where(ids[:, 1:] != eos, other), torch.full((len(ids), 1), eos)], dim=1)


def _first(token: Any) -> int | None:
    """A token id of a config, or the first of several; None where there is none."""
    listed = token if isinstance(token, list) else [token]
    return None if not listed or listed[0] is None else int(listed[0])


def _masked_patches(pixels: Tensor, patch_size: int | Sequence[int]) -> Tensor:
    """``[batch, patches]``, True at every third patch of ``pixels``, which are ``[batch, channels,
    height, width]``."""
    sides = zip(pixels.shape[2:], _sides(patch_size), strict=True)
    patches = math.prod(side // patch for side, patch in sides)
    return (torch.arange(patches) % 3 == 1).expand(len(pixels), -1)


def _raw_inputs(config: Mapping[str, Any], taken: Collection[str], batch: int) -> Inputs:
    """Random pixels or a random spectrogram, if the class takes them."""
    generator = torch.Generator().manual_seed(batch)
    if "pixel_values" in taken:
        seen = config.get("vision_config") or config
        shape = (batch, seen["num_channels"], *_sides(seen["image_size"]))
        return {"pixel_values": torch.randn(shape, generator=generator, dtype=torch.get_default_dtype())}
    if "input_features" in taken:
        shape = (batch, config["num_mel_bins"], 2 * config["max_source_positions"])
        return {"input_features": torch.randn(shape, generator=generator, dtype=torch.get_default_dtype())}
    return {}


def _sides(size: int | Sequence[int]) -> tuple[int, ...]:
    """Height and width, from one number or a pair."""
    return (size, size) if isinstance(size, int) else tuple(size)
