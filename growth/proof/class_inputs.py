"""The inputs of a model class that is declared: what its ``forward`` takes says which there are."""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from growth.hf.custom_modules import ModuleWrapper

Inputs = dict[str, Tensor]


def padded_inputs(model: PreTrainedModel, vocabulary: int, *, batch: int, length: int, seed: int) -> Inputs:
    """Inputs whose first row is padded, with two token segments where the class tells them apart.

    Args:
        model, vocabulary, batch, length, seed: as for `growth.proof.inputs.random_inputs`.
    """
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
