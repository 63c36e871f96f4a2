"""Running a model of any family on the same inputs, and comparing what two models return."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from growth.axis import Map
from growth.plan import Plan

Inputs = dict[str, Tensor]
Outputs = dict[str, Tensor]


def random_inputs(model: PreTrainedModel, vocabulary: int, *, batch: int = 2, length: int = 11, seed: int = 0) -> Inputs:
    """Random tokens, one row padded on the left, random pixels or sound, as the model's class wants them."""
    ids = torch.randint(2, vocabulary - 1, (batch, length), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones_like(ids)
    mask[0, : length // 3] = 0
    return class_inputs(type(model), model.config.to_dict(), ids, mask)


def class_inputs(kind: type[PreTrainedModel], config: Mapping[str, Any], ids: Tensor, mask: Tensor) -> Inputs:
    """What a class reads, made of token ids ``[batch, length]``: with decoder inputs, with choices, ending where the class pools; beside
    or instead of them random pixels ``[batch, channels, height, width]`` or a random spectrogram ``[batch, bins, frames]``."""
    taken = inspect.signature(kind.forward).parameters
    decodes = "decoder_input_ids" in taken
    if decodes and kind.__name__.endswith("SequenceClassification"):
        # Pooled at the last end-of-sequence token, which every row must have equally often.
        eos = config["eos_token_id"]
        eos = int(eos[0] if isinstance(eos, list) else eos)
        ids = torch.cat([ids[:, 1:].where(ids[:, 1:] != eos, eos + 1), torch.full((len(ids), 1), eos)], dim=1)
    inputs = {"input_ids": ids, "attention_mask": mask} if "input_ids" in taken else {}
    inputs |= _raw_inputs(config, taken, len(ids))
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
        sides = seen["image_size"] if isinstance(seen["image_size"], (list, tuple)) else (seen["image_size"],) * 2
        return {"pixel_values": torch.randn(batch, seen["num_channels"], *sides, generator=generator, dtype=torch.get_default_dtype())}
    if "input_features" in taken:
        shape = (batch, config["num_mel_bins"], 2 * config["max_source_positions"])
        return {"input_features": torch.randn(shape, generator=generator, dtype=torch.get_default_dtype())}
    return {}


@torch.no_grad()
def forward(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Outputs:
    """Every floating tensor of the model's output, by field; entries of ``hidden_states`` by ``field.index``."""
    caches = {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
    result = model(**inputs, **caches, output_hidden_states=True, return_dict=True)
    outputs: Outputs = {}
    for name, value in result.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            outputs[name] = value
        elif isinstance(value, tuple) and "hidden_states" in name:
            outputs |= {f"{name}.{i}": entry for i, entry in enumerate(value)}
    return outputs


def output_map(name: str, names: Mapping[str, Any], plan: Plan) -> Map | None:
    """How an output field grows, None if it does not (logits)."""
    base, _, index = name.partition(".")
    space = plan.architecture.output_space(base, plan.model_class.__name__)
    if index and f"{base}.{int(index) + 1}" not in names:
        kind, last = plan.model_class.__name__, {"encoder_hidden_states": "encoder_last_hidden_state"}.get(base, "last_hidden_state")
        space = plan.architecture.output_space(f"{base}.last", kind) or plan.architecture.output_space(last, kind)
    return None if space is None else plan.maps[space]


def grown_output(value: Tensor, grown: Map | None) -> Tensor:
    """What a grown model must return where the old one returns ``value``."""
    if grown is None:
        return value
    source = torch.from_numpy(grown.source).to(value.device)
    return value.index_select(-1, source) * torch.from_numpy(grown.write).to(value.device, value.dtype)


def largest_difference(before: Outputs, after: Outputs, plan: Plan) -> float:
    """max |after - grown before| over all outputs; NaN counts as NaN, a field that only one has as infinity."""
    if before.keys() != after.keys():
        return float("inf")
    differences = [(after[name] - grown_output(value, output_map(name, before, plan))).abs().max() for name, value in before.items()]
    return float(torch.stack(differences).max())
