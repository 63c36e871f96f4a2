"""Tiny loud models of every model type of transformers, from the fields of its default config by name."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import torch
import transformers
from coverage_exceptions import DEEP, DEFAULTS, OVER
from coverage_tables import HEAD, HEADS, HIDDEN, LAYERS, SMALL
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel

Fields = dict[str, Any]

LARGEST = 12_000_000
"""Parameters of a model that is still grown."""

_COUNTS_OF_LAYERS = (
    *("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers", "depth", "layers"),
)
_KINDS_OF_LAYERS = ("layer_types", "layers_block_type", "block_types", "hybrid_override_pattern")
_COMPUTED = ("per_layer_config", "out_features", "_out_features", "out_indices", "_out_indices", "stage_names")
_DROPPED = (*_COMPUTED, "quantization_config")
_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
_TOKEN_NAMES = ("unk_index", "mask_index", "lang_id", "_pad_token_id")
_PAIRS = {
    "encoder-decoder": ("bert", "bert"),
    "vision-encoder-decoder": ("vit", "bert"),
    "speech-encoder-decoder": ("wav2vec2", "bert"),
}


def tiny_config(model_type: str) -> PreTrainedConfig:
    """The default config of a model type with small values."""
    kind = CONFIG_MAPPING[model_type]
    if model_type in _PAIRS:
        encoder, decoder = (tiny_config(part).to_dict() for part in _PAIRS[model_type])
        decoder |= {"is_decoder": True, "add_cross_attention": True}
        return kind(encoder=encoder, decoder=decoder, decoder_start_token_id=1, pad_token_id=0)
    if model_type == "vision-text-dual-encoder":
        parts = tiny_config("clip_vision_model").to_dict(), tiny_config("bert").to_dict()
        return kind(vision_config=parts[0], text_config=parts[1])
    default = kind(**DEFAULTS.get(model_type, {}))
    small = _section(_plain(json.loads(default.to_json_string(use_diff=False))), count(5))
    for path, value in DEEP.get(model_type, {}).items():
        *sections, last = path.split(".")
        part = small
        for section in sections:
            part = part.setdefault(section, {})
        part[last] = value
    return kind.from_dict(small)


def class_and_config(model_type: str, name: str) -> tuple[type[PreTrainedModel], PreTrainedConfig]:
    """A class and the part of the tiny config that it is made from."""
    model_class = getattr(transformers, name)
    config = tiny_config(model_type)
    wanted = model_class.config_class
    for section in config.sub_configs:
        if isinstance(config, wanted):
            break
        if isinstance(getattr(config, section, None), wanted):
            config = getattr(config, section)
    if name.endswith("MaskedLM"):
        config.is_decoder = False
    if name.endswith("EncoderModel") and "is_encoder_decoder" in config.to_dict():
        config.is_encoder_decoder = False
    return model_class, config


def parameters(model_class: type[PreTrainedModel], config: PreTrainedConfig) -> int:
    """How many parameters the model has, without making it."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in model_class(config).parameters())


def loud_model(model_class: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    """The model in float64, with every parameter random and large enough to matter."""
    model = model_class(config).double()
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.dim() > 1:
                parameter.copy_(0.25 * noise)
            else:
                parameter.copy_(0.2 * noise + parameter.nan_to_num())
    return model


def _plain(value: Any) -> Any:
    """A config as read from JSON, with infinities, and without what transformers computes."""
    if isinstance(value, dict):
        if set(value) == {"__float__"}:
            return float(value["__float__"].replace("Infinity", "inf"))
        return {key: _plain(entry) for key, entry in value.items() if key not in _DROPPED}
    return [_plain(entry) for entry in value] if isinstance(value, list) else value


def _section(fields: Fields, tokens: Any) -> Fields:
    """A section of a config with small values; ``tokens`` numbers special tokens."""
    layers = next((fields[name] for name in _COUNTS_OF_LAYERS if isinstance(fields.get(name), int)), None)
    chosen = _layers(fields)
    rope = fields.get("rope_parameters") or fields.get("rope_scaling") or {}
    part = (rope.get("partial_rotary_factor") if isinstance(rope, dict) else None) or fields.get(
        "partial_rotary_factor"
    )
    part = part or 1.0
    sectioned = "mrope_section" in fields or any(
        isinstance(value, dict) and "mrope_section" in value for value in fields.values()
    )
    head = 24 if sectioned and part <= 0.25 else HEAD
    small: Fields = {}
    for name, value in fields.items():
        if isinstance(value, dict) and name in ("rope_parameters", "rope_scaling"):
            small[name] = _rope(value, head, part)
        elif isinstance(value, dict) and any(
            key in value for key in ("hidden_size", "model_type", "d_model", "embed_dim")
        ):
            small[name] = _section(value, tokens)
        elif isinstance(value, bool) or value is None or isinstance(value, dict):
            small[name] = value
        elif isinstance(value, int) and name in _TOKENS:
            small[name] = _TOKENS[name] if value >= 0 else value
        elif isinstance(value, int) and ("token_id" in name or "token_index" in name or name in _TOKEN_NAMES):
            token = next(tokens)
            small[name] = token if value >= 0 else value
        elif isinstance(value, list) and "token_id" in name:
            small[name] = [3 + number for number in range(len(value))] if len(value) < 10 else []
        elif isinstance(value, int) and name in SMALL:
            small[name] = _number(name, value, fields, layers, len(chosen), head)
        elif isinstance(value, list) and layers and len(value) == layers and len(value) > 4:
            order = [*chosen, *(number for number in range(len(value)) if number not in chosen)]
            small[name] = [value[number] for number in order[: max(LAYERS, len(chosen))]]
        elif name == "mrope_section":
            small[name] = _thirds(int(head * part) // 2) if len(value) == 3 else value
        elif isinstance(value, list) and name in ("depths", "num_block_repeats", "layers_per_stage"):
            small[name] = [1] * len(value)
        elif isinstance(value, list) and name in ("hidden_sizes", "embed_dims", "neck_hidden_sizes"):
            small[name] = [16 * (number + 1) for number in range(len(value))]
        else:
            small[name] = value
    if "qk_nope_head_dim" in fields and small.get("num_key_value_heads", 1) != 1:
        small["num_key_value_heads"] = HEADS  # latent attention: as many as heads
    return {**small, **OVER.get(str(fields.get("model_type")), {})}


def _layers(fields: Fields) -> list[int]:
    """The numbers of layers that show every kind, at least two."""
    kinds = next(
        (fields[name] for name in _KINDS_OF_LAYERS if isinstance(fields.get(name), list) and fields[name]), None
    )
    if kinds is None:
        return list(range(LAYERS))
    first = [number for number, kind in enumerate(kinds) if kind not in kinds[:number]]
    others = [number for number in range(len(kinds)) if number not in first]
    return sorted(first + others[: max(0, LAYERS - len(first))])


def _number(name: str, value: int, fields: Fields, layers: int | None, chosen: int, head: int) -> int:
    """The small value of a field that is a number."""
    small = SMALL[name]
    if name == "head_dim":
        small = head
        if "qk_rope_head_dim" in fields:
            both = fields.get("qk_nope_head_dim", 0) + fields["qk_rope_head_dim"]
            small = 4 if value == fields["qk_rope_head_dim"] else 12 if value == both else HEAD
    if layers is not None and value == layers and name in _LAYER_COUNTS:
        small = max(LAYERS, chosen)
    if name in ("num_key_value_heads", "num_kv_heads") and value == 1:
        small = 1
    if name in ("embedding_size", "embed_dim", "projection_dim") and value == fields.get("hidden_size"):
        small = HIDDEN
    return small if value > 0 or name == "first_k_dense_replace" else value


_LAYER_COUNTS = frozenset(
    name for name, value in SMALL.items() if name == "depth" or (value == LAYERS and "layer" in name)
)


def _rope(fields: Fields, head: int, part: float) -> Fields:
    """Rotary parameters that fit a small head, one or one for each kind of layer."""
    if fields and all(isinstance(value, dict) for value in fields.values()):
        return {name: _rope(value, head, part) for name, value in fields.items()}
    pairs = max(1, int(head * (fields.get("partial_rotary_factor", part) or 1.0)) // 2)
    small = dict(fields)
    for name, value in fields.items():
        if name == "mrope_section" and len(value) == 3:
            small[name] = _thirds(pairs)
        elif isinstance(value, list) and "factor" in name:
            small[name] = value[:pairs]
        elif name == "original_max_position_embeddings":
            small[name] = 16
    return small


def _thirds(number: int) -> list[int]:
    return [number - 2 * (number // 3), number // 3, number // 3]
