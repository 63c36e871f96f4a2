"""Running a model of any family on the same inputs, and comparing what two models return."""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from growth.axis import Map
from growth.errors import ProofError
from growth.own import OwnModel
from growth.plan import Plan

Inputs = dict[str, Tensor]
Outputs = dict[str, Tensor]


def random_inputs(model: PreTrainedModel, vocabulary: int, *, batch: int = 2, length: int = 11, seed: int = 0) -> Inputs:
    """Random tokens in two segments, one row padded on the left, random pixels or sound, as the model's class wants them."""
    ids = torch.randint(2, vocabulary - 1, (batch, length), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones_like(ids)
    mask[0, : length // 3] = 0
    mask = mask.flip(1) if isinstance(model, OwnModel) else mask  # no token that sees no other: many a module makes NaN of that
    config = model.config.to_dict()
    inputs = class_inputs(type(model), config, ids, mask)
    if "input_ids" in inputs and "token_type_ids" in inspect.signature(model.forward).parameters:
        last = max(config.get("type_vocab_size", 2), 1) - 1
        inputs["token_type_ids"] = (torch.arange(length) >= length // 2).long().clamp(max=last).expand_as(inputs["input_ids"])
    return inputs


def class_inputs(kind: type[PreTrainedModel], config: Mapping[str, Any], ids: Tensor, mask: Tensor) -> Inputs:
    """What a class reads, made of token ids ``[batch, length]``: with decoder inputs, with choices, ending where the class pools; beside
    or instead of them random pixels ``[batch, channels, height, width]`` or a random spectrogram ``[batch, bins, frames]``."""
    taken = inspect.signature(kind.forward).parameters
    decodes = "decoder_input_ids" in taken
    read = config.get("text_config") or config
    pools = (decodes and kind.__name__.endswith("SequenceClassification")) or {"input_ids", "pixel_values"} <= taken.keys()
    if pools and (eos := read.get("eos_token_id")) is not None:
        # Pooled at an end-of-sequence token, which every row must have equally often.
        eos = int(eos[0] if isinstance(eos, list) else eos)
        other = eos + 1 if eos + 1 < read["vocab_size"] else eos - 1
        ids = torch.cat([ids[:, 1:].where(ids[:, 1:] != eos, other), torch.full((len(ids), 1), eos)], dim=1)
    inputs = {"input_ids": ids, "attention_mask": mask} if "input_ids" in taken else {}
    inputs |= _raw_inputs(config, taken, len(ids))
    restores = kind.__name__.endswith("MaskedImageModeling") and config["encoder_stride"] == config["patch_size"]
    if "bool_masked_pos" in taken and (config.get("use_mask_token") or restores):
        sides = zip(inputs["pixel_values"].shape[2:], _sides(config["patch_size"]), strict=True)
        inputs["bool_masked_pos"] = (torch.arange(math.prod(side // patch for side, patch in sides)) % 3 == 1).expand(len(ids), -1)
    if decodes:
        start = torch.full((len(ids), 1), int(config.get("decoder_start_token_id") or 0))
        inputs["decoder_input_ids"] = torch.cat([start, ids[:, :-1]], dim=1)
    if kind.__name__.endswith("MultipleChoice"):
        inputs = {name: value[:, None].expand(-1, 2, -1).contiguous() for name, value in inputs.items()}
    return inputs


def _raw_inputs(config: Mapping[str, Any], taken: Collection[str], batch: int) -> Inputs:
    """Pixels and spectrograms."""
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
    """Height and width."""
    return (size, size) if isinstance(size, int) else tuple(size)


@torch.no_grad()
def forward(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Outputs:
    """Every floating tensor of the model's output but its loss, by field; entries of ``hidden_states``, ``router_logits`` and
    ``feature_maps`` by ``field.index``, the maps with their channels last."""
    wanted = {"output_hidden_states": True, "return_dict": True}
    wanted |= {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
    wanted |= {"output_router_logits": True} if "router_logits" in (model._can_record_outputs or {}) else {}
    result = model(**inputs, **wanted)
    outputs: Outputs = {}
    for name, value in result.items():
        if isinstance(value, Tensor) and value.is_floating_point() and value.ndim:
            outputs[name] = value
        elif name == "feature_maps":
            outputs |= {f"{name}.{i}": entry.movedim(1, -1) if entry.ndim == 4 else entry for i, entry in enumerate(value)}
        elif isinstance(value, tuple) and ("hidden_states" in name or "router_logits" in name):
            outputs |= {f"{name}.{i}": entry for i, entry in enumerate(value) if isinstance(entry, Tensor)}
    return outputs


@dataclass(frozen=True)
class Comparison:
    """How to compare an output.

    Args:
        map: how it grows, None if it does not (logits).
        summed: whether only the sums over copies are kept (`growth.tied`), so that these are compared.
    """

    map: Map | None = None
    summed: bool = False

    def expected(self, old: Tensor) -> Tensor:
        """What a grown model must show where the old one returns ``old``."""
        return old if self.summed else grown_output(old, self.map)

    def found(self, new: Tensor) -> Tensor:
        """What it does show where it returns ``new``: as it is, or ``sum(read[j] * new[j])`` over copies."""
        if not self.summed or self.map is None or self.map.m != new.shape[-1]:
            return new
        read = torch.from_numpy(np.where(self.map.means, 0.0, self.map.read)).to(new.device, new.dtype)
        source = torch.from_numpy(self.map.source).to(new.device)
        return new.new_zeros((*new.shape[:-1], self.map.n)).index_add_(-1, source, new * read)


def output_comparison(name: str, names: Mapping[str, Any], plan: Plan) -> Comparison:
    """How to compare an output field."""
    base, _, index = name.partition(".")
    space = plan.architecture.output_space(base, plan.model_class.__name__)
    if "hidden_states" in base and index and f"{base}.{int(index) + 1}" not in names:
        kind, last = plan.model_class.__name__, {"encoder_hidden_states": "encoder_last_hidden_state"}.get(base, "last_hidden_state")
        space = plan.architecture.output_space(f"{base}.last", kind) or plan.architecture.output_space(last, kind)
    return Comparison() if space is None else Comparison(plan.maps[space], space in plan.summed)


def grown_output(value: Tensor, grown: Map | None) -> Tensor:
    """What a grown model must return where the old one returns ``value``."""
    if grown is None:
        return value
    source = torch.from_numpy(grown.source).to(value.device)
    taken = value.index_select(-1, source)
    if grown.averages:
        taken = torch.where(torch.from_numpy(grown.means).to(value.device), value.mean(-1, keepdim=True), taken)
    return taken * torch.from_numpy(grown.write).to(value.device, value.dtype)


def largest_difference(before: Outputs, after: Outputs, plan: Plan) -> float:
    """max |after - grown before| over all outputs; NaN counts as NaN, a field that only one has as infinity."""
    if before.keys() != after.keys():
        return float("inf")
    differences = []
    for name, value in before.items():
        compared = output_comparison(name, before, plan)
        grown = list(value.shape if compared.map is None else (*value.shape[:-1], compared.map.m))
        if list(after[name].shape) != grown:
            raise ProofError(
                f"output '{name}' has shape {list(value.shape)} and after growth {list(after[name].shape)}, not {grown}. "
                "Correct its space in the declaration's 'outputs'."
            )
        differences.append((compared.found(after[name]) - compared.expected(value)).abs().max())
    return float(torch.stack(differences).max())
