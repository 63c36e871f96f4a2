"""The miniature of a config: the same class with small distinct sizes and loud random weights, in
float64."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

from growth.architectures.architecture import Architecture
from growth.architectures.sizes import TwinContext, rotary_fraction, value_at
from growth.hf.config_json import is_written, merged, section_at, spellings
from growth.hf.configs import Config, config_to_build, parse
from growth.hf.model_classes import class_of

VOCABULARY, POSITIONS, LAYERS = 41, 40, 2


SMALL = {
    **{
        "vocab_size": VOCABULARY,
        "max_position_embeddings": POSITIONS,
        "num_hidden_layers": LAYERS,
        "num_decoder_layers": LAYERS,
    },
    **{
        "encoder_layers": LAYERS,
        "decoder_layers": LAYERS,
        "num_experts": 5,
        "num_local_experts": 5,
        "num_experts_per_tok": 3,
    },
    **{"image_size": 6, "patch_size": 2, "encoder_stride": 2},
    **{"num_mel_bins": 7, "max_source_positions": 20, "max_target_positions": POSITIONS},
}
"""Counts that growth keeps and the twin can do with few of."""


WINDOW, SWITCH = 5, 8
"""A sliding window closes within either length; factors per frequency change over between the
two."""


def build_exact(raw: Mapping[str, Any]) -> PreTrainedModel:
    """The stock class on this config in float64, attention and experts computed eagerly, dropout
    off. Call it under `exact_arithmetic`."""
    parsed, kind = config_to_build(raw), class_of(raw)
    eager = {"attn_implementation": "eager", "experts_implementation": "eager"}  # fused experts have no float64
    model: PreTrainedModel = kind._from_config(parsed, **eager, dtype=torch.float64)
    model.to(dtype=torch.float64)  # type: ignore[call-arg]
    model.eval()
    return model


def loud(model: PreTrainedModel, seed: int = 0) -> None:
    """Random weights that make every parameter count: matrices of gain one, biases and gains far
    from their defaults, and what else a checkpoint holds no longer zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.ndim <= 1:
                parameter.copy_(0.7 + 0.5 * noise)
            else:
                parameter.copy_(noise * min(parameter.shape) ** -0.5)
        kept = model.state_dict().keys()
        for name, buffer in model.named_buffers():
            if name in kept and buffer.is_floating_point() and not buffer.any():
                buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator, dtype=torch.float64))


def miniature(raw: Mapping[str, Any], architecture: Architecture) -> Config:
    """The user's config with small distinct sizes and everything else as it is."""
    config = merged(raw)
    parsed = config.parsed
    old = architecture.read_sizes(parsed)
    result = copy.deepcopy(dict(config))
    ropes = {key: rope for key in ("rope_parameters", "rope_scaling") if isinstance(rope := result.get(key), dict)}
    result |= {key: _plain_rope(rope) for key, rope in ropes.items()}
    fields = architecture.fields().items()
    spelled = frozenset(
        name for name, field in fields if is_written(config, field) and value_at(parsed, field) is not None
    )
    small: dict[str, int] = {}
    for name, size in architecture.sizes.items():
        if size.field and (name in spelled or value_at(parsed, size.field)):
            small[name] = (
                size.small if isinstance(size.small, int) else size.small(TwinContext(parsed, old, spelled, small))
            )
            if name in spelled or size.follows is None:
                _write(result, config, parsed, size.field, small[name])
    for name in small.keys() - spelled:
        size = architecture.sizes[name]
        if size.follows is not None and value_at(parse(result), size.field) != size.follows(parsed, small):
            _write(
                result, config, parsed, size.field, small[name]
            )  # a default of the class, not implied by the other sizes
    for section in ["", *(f"{part}." for part in parsed.sub_configs if value_at(parsed, part) is not None)]:
        _shrink(result, config, parsed, section)
    for name, value in {**architecture.twin(parsed, LAYERS), **architecture.arithmetic}.items():
        _write(result, config, parsed, name, value)
    small_config = Config(result)
    head_dim = architecture.read_sizes(small_config.parsed).get("head_dim", 2)
    restored = {key: _small_rope(rope, head_dim, rotary_fraction(parsed) or 1.0) for key, rope in ropes.items()}
    return (
        Config({**result, **restored}) if any(result[key] != rope for key, rope in restored.items()) else small_config
    )


def _write(result: dict[str, Any], raw: Mapping[str, Any], parsed: Any, path: str, value: Any) -> None:
    """Set a field under every name it has in the raw config, if the class knows it or the file
    spells it out."""
    section, _, name = path.rpartition(".")
    owner = value_at(parsed, section) if section else parsed
    name = type(owner).attribute_map.get(name, name)
    path = f"{section}.{name}" if section else name
    target = section_at(result, path)
    if name in owner.to_dict() or name in target:
        target.update(dict.fromkeys(spellings(raw, path), value))


def _shrink(result: dict[str, Any], raw: Mapping[str, Any], parsed: Any, section: str) -> None:
    """Everything that is not a size of the architecture but makes a model large, in one section of
    the config."""
    known = (value_at(parsed, section[:-1]) if section else parsed).to_dict()
    for name, value in SMALL.items():
        if known.get(type(parsed).attribute_map.get(name, name)) is not None:
            _write(result, raw, parsed, section + name, value)
    for name, value in known.items():
        if name.endswith("_token_id"):  # small, since some families count positions from the padding id on
            ids = (
                [min(entry, 3) for entry in value]
                if isinstance(value, list)
                else min(value, 3)
                if value is not None
                else None
            )
            _write(result, raw, parsed, section + name, 0 if name == "pad_token_id" and ids is None else ids)
    if isinstance(window := known.get("sliding_window"), int):
        _write(result, raw, parsed, section + "sliding_window", min(window, WINDOW))
    for name in ("layer_types", "mlp_layer_types"):
        if isinstance(kinds := known.get(name), list):
            _write(result, raw, parsed, section + name, (list(dict.fromkeys(kinds)) * LAYERS)[:LAYERS])


def _plain_rope(rope: Mapping[str, Any]) -> dict[str, Any]:
    """Without factors per frequency, whose number fits the user's head_dim alone."""
    if not any(isinstance(value, list) for value in rope.values()):
        return dict(rope)
    return {
        "rope_type": "default",
        **{name: rope[name] for name in ("rope_theta", "partial_rotary_factor") if name in rope},
    }


def _small_rope(rope: Mapping[str, Any], head_dim: int, turning: float = 1.0) -> dict[str, Any]:
    """With as many factors as a ``turning`` part of a small head has pairs, unless ``rope`` says
    which part."""
    if rope and all(isinstance(value, Mapping) for value in rope.values()):
        return {kind: _small_rope(value, head_dim) for kind, value in rope.items()}
    pairs = int(head_dim * float(rope.get("partial_rotary_factor") or turning)) // 2
    small = {name: (value * head_dim)[:pairs] if isinstance(value, list) else value for name, value in rope.items()}
    if any(isinstance(value, list) for value in rope.values()) and "original_max_position_embeddings" in rope:
        small["original_max_position_embeddings"] = SWITCH
    return small
