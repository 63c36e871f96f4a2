"""The miniature of a config: the same class with small, distinct sizes and random float64 weights.

Small, so that it runs in a second; distinct, so that a mistake in one dimension cannot be hidden by
another of the same size (with 4 heads of 4 features, heads and features could be exchanged
unnoticed). Everything that selects a code path stays as the user's config has it: activations,
norms, tied weights, kinds of layer, the type of rotary positions."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from growth.architectures.architecture import Architecture
from growth.architectures.sections import joined, sections
from growth.architectures.sizes import TwinContext, rotary_fraction, value_at
from growth.extension.experts import expert_size
from growth.hf.config_json import is_written, merged, section_at, spellings
from growth.hf.configs import Config, Raw, config_to_build
from growth.hf.model_classes import class_of
from growth.proof.small_ropes import has_factors, small_rope

VOCABULARY, POSITIONS, LAYERS = 41, 40, 2


SMALL_COUNTS = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": POSITIONS,
    "num_hidden_layers": LAYERS,
    "num_decoder_layers": LAYERS,
    "encoder_layers": LAYERS,
    "decoder_layers": LAYERS,
    "num_experts": 5,
    "num_local_experts": 5,
    "num_experts_per_tok": 3,
    "image_size": 6,
    "patch_size": 2,
    "encoder_stride": 2,
    "num_mel_bins": 7,
    "max_source_positions": 20,
    "max_target_positions": POSITIONS,
}
"""Config field -> its value in a miniature, for counts that make a model large and do not grow."""


WINDOW = 5
"""The longest sliding window of a miniature: shorter than the twin's inputs, so that it masks."""


LARGEST_TOKEN_ID = 3
"""Special tokens of a miniature are small: some families count positions from the padding id on."""


@dataclass(frozen=True)
class Parts:
    """What of a miniature an extension parts.

    Args:
        queries: how many times as many queries as usual share a key and value, where several do.
        features: what the size of an expert must be a multiple of.
    """

    queries: int = 1
    features: int = 1


def build_exact(raw: Mapping[str, Any], *, experts: str = "eager") -> PreTrainedModel:
    """The config's model class in float64, in eval mode, with eager attention and eager experts
    (the fused kernels have no float64), or another implementation of them. Call it under
    `exact_arithmetic`."""
    parsed, kind = config_to_build(raw), class_of(raw)
    eager = {"attn_implementation": "eager", "experts_implementation": experts}
    model: PreTrainedModel = kind._from_config(parsed, **eager, dtype=torch.float64)
    model.double()  # to(dtype=...) would drop imaginary parts
    model.eval()
    return model


def loud(model: PreTrainedModel, seed: int = 0) -> None:
    """Fill a model with random weights under which every parameter changes the outputs.

    Matrices and convolutions have the size at which activations keep theirs. Biases and
    gains are far from 0 and 1, their values at initialisation, where a wrong coefficient would not
    show. Buffers that a checkpoint stores are filled where they are zero."""
    generator = torch.Generator().manual_seed(seed)
    windows = {id(part.weight) for part in model.modules() if isinstance(part, nn.modules.conv._ConvNd)}
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.ndim <= 1:
                parameter.copy_(0.7 + 0.5 * noise)
            else:
                read = math.prod(parameter.shape[1:]) if id(parameter) in windows else min(parameter.shape)
                parameter.copy_(noise * max(read, 1) ** -0.5)
        stored = model.state_dict().keys()
        for name, buffer in model.named_buffers():
            if name in stored and buffer.is_floating_point() and not buffer.any():
                buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator, dtype=torch.float64))


def miniature(raw: Mapping[str, Any], architecture: Architecture, parts: Parts | None = None) -> Config:
    """The user's config with small, distinct sizes and everything else as it is.

    A field is written in the miniature if the user's config writes it, or if its default would make
    the model large. A size that the user's config leaves to follow from others stays so.

    Args:
        raw: the user's config.
        architecture: the declaration at that config.
        parts: what it must be possible to part.

    Returns:
        The miniature's config, under the field names that ``raw`` uses.

    Example:
        >>> user = {"model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32}
        >>> dict(miniature(user, architectures.find("llama")))
        {'model_type': 'llama', 'hidden_size': 18, 'num_attention_heads': 3, 'intermediate_size': 29,
         'vocab_size': 41, 'max_position_embeddings': 40, 'num_hidden_layers': 2, 'pad_token_id': 0,
         'bos_token_id': 1, 'eos_token_id': 2, 'chunk_size_feed_forward': 0}

        ``head_dim`` and ``num_key_value_heads`` are not written: they follow from the sizes that are
        (6 and 3), as they do in the user's config (128 and 32).
    """
    config = merged(raw)
    parsed = config.parsed
    small = _Miniature(config, copy.deepcopy(dict(config)))
    ropes = _remove_rope_factors(small)
    _write_sizes(small, architecture, parts or Parts())
    for section in sections(parsed):
        _write_counts(small, section)
        _write_token_ids(small, section)
        _write_layers(small, section)
    for path, value in {**architecture.twin(parsed, LAYERS), **architecture.arithmetic}.items():
        small.write(path, value)
    return _with_rope_factors(small, ropes, architecture)


@dataclass(frozen=True)
class _Miniature:
    """A miniature in the making.

    Args:
        config: the user's.
        fields: the JSON object of the miniature; each pass writes into it.
    """

    config: Config
    fields: Raw

    def write(self, path: str, value: Any) -> None:
        """Set a field, dotted inside a nested config, under every name the user's config has for
        it. A field is skipped if its class does not know it and the user's config does not have
        it."""
        section, _, name = path.rpartition(".")
        owner = self.section(section)
        name = type(owner).attribute_map.get(name, name)
        path = joined(section, name)
        target = section_at(self.fields, path)
        if name in owner.to_dict() or name in target:
            target.update(dict.fromkeys(spellings(self.config, path), value))

    def section(self, name: str) -> PreTrainedConfig:
        """The user's config, parsed, or the nested one of that name."""
        found: PreTrainedConfig = value_at(self.config.parsed, name)
        return found


def _remove_rope_factors(small: _Miniature) -> dict[str, Raw]:
    """Reset rotary parameters that list a factor per frequency: the list fits the user's head_dim,
    and would be refused with a smaller one while the sizes are written. Returns the user's rotary
    parameters by config field, for `_with_rope_factors`."""
    fields = ("rope_parameters", "rope_scaling")
    ropes = {name: rope for name in fields if isinstance(rope := small.fields.get(name), dict)}
    for name, rope in ropes.items():
        small.fields[name] = dict(rope)
        if has_factors(rope):
            kept = {key: rope[key] for key in ("rope_theta", "partial_rotary_factor") if key in rope}
            small.fields[name] = {"rope_type": "default", **kept}
    return ropes


def _write_sizes(small: _Miniature, architecture: Architecture, parts: Parts) -> None:
    """Write a small value for every size that grows, except those that follow from others.

    A size that the user's config does not write may still have a default of its class: Mistral has
    8 key/value heads, whatever the number of heads. It is written where the default differs from
    what follows from the other sizes."""
    parsed = small.config.parsed
    old = architecture.read_sizes(parsed)
    written = frozenset(
        name
        for name, field in architecture.fields().items()
        if is_written(small.config, field) and value_at(parsed, field) is not None
    )
    values: dict[str, int] = {}
    for name, size in architecture.sizes.items():
        if size.field and (name in written or value_at(parsed, size.field)):
            context = TwinContext(parsed, old, written, values, parts.queries)
            values[name] = size.small if isinstance(size.small, int) else size.small(context)
            if name == expert_size(architecture.sizes):
                values[name] += -values[name] % parts.features
            if name in written or size.follows is None:
                small.write(size.field, values[name])
    filled = Config(small.fields)
    for name, value in values.items():
        size = architecture.sizes[name]
        if name in written or size.follows is None:
            continue
        if value_at(filled.parsed, size.field) != size.follows(parsed, values):
            small.write(size.field, value)
            filled = Config(small.fields)


def _write_counts(small: _Miniature, section: str) -> None:
    """Write `SMALL_COUNTS` into a section of the config ("" or ``text_config``), as far as it has
    such fields."""
    names, known = type(small.config.parsed).attribute_map, small.section(section).to_dict()
    kept = getattr(type(small.config.parsed), "kept_counts", ())
    for name, value in SMALL_COUNTS.items():
        if name not in kept and known.get(names.get(name, name)) is not None:
            small.write(joined(section, name), value)


def _write_token_ids(small: _Miniature, section: str) -> None:
    """Write special tokens that the small vocabulary has; ``pad_token_id`` 0 if there is none."""
    for name, value in small.section(section).to_dict().items():
        if name.endswith("_token_id"):
            small.write(
                joined(section, name), 0 if name == "pad_token_id" and value is None else _small_token_id(value)
            )


def _small_token_id(value: Any) -> Any:
    """One token id, a list of them or None, none above `LARGEST_TOKEN_ID`."""
    if isinstance(value, list):
        return [min(entry, LARGEST_TOKEN_ID) for entry in value]
    return None if value is None else min(value, LARGEST_TOKEN_ID)


def _write_layers(small: _Miniature, section: str) -> None:
    """Write a short sliding window, and lists of layer kinds as long as the miniature has layers.
    Every kind comes before any is repeated: of ``[full, full, sliding, full]`` two layers are
    ``[full, sliding]``."""
    known = small.section(section).to_dict()
    if isinstance(window := known.get("sliding_window"), int):
        small.write(joined(section, "sliding_window"), min(window, WINDOW))
    for name in ("layer_types", "mlp_layer_types"):
        if isinstance(kinds := known.get(name), list):
            small.write(joined(section, name), (list(dict.fromkeys(kinds)) * LAYERS)[:LAYERS])


def _with_rope_factors(small: _Miniature, ropes: Mapping[str, Raw], architecture: Architecture) -> Config:
    """The finished config, with the rotary parameters that `_remove_rope_factors` took out; lists
    of factors are as long as a small head has rotary pairs, and as the user's where ``head_dim`` is no
    size that grows."""
    config = Config(small.fields)
    head_dim = architecture.read_sizes(config.parsed).get("head_dim")
    rotary = rotary_fraction(small.config.parsed) or 1.0
    small_ropes = {name: small_rope(rope, head_dim, rotary) for name, rope in ropes.items()}
    if all(config[name] == rope for name, rope in small_ropes.items()):
        return config
    return Config({**config, **small_ropes})
