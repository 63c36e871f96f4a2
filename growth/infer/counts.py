"""Small counts for a miniature of a model that nobody declared: layers, vocabularies, positions,
experts, pictures. None of them touches a dimension that grows."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from growth.architectures.sections import joined
from growth.hf.config_json import section_at, spellings
from growth.hf.configs import Config
from growth.infer.fields import all_sections, entries, size_in, takes_one
from growth.infer.layers import small_layers
from growth.proof.miniature import POSITIONS, VOCABULARY, WINDOW

EXPERTS, CHOSEN, CHUNK = 5, 3, 8
_EXPERTS = re.compile(r"^(num_experts|num_local_experts|n_routed_experts|moe_num_experts|n_experts|num_moe_experts)$")
_CHOSEN = re.compile(
    r"^(num_experts_per_tok(en)?|moe_k|moe_top_?k|moe_num_experts_per_tok|top_k_experts|experts_per_token|num_selected_experts)$"
)
_GROUPS = re.compile(r"^(n_group|num_expert_group)$")
_POSITIONS = re.compile(
    r"max_position_embeddings$|^n_positions$|^n_ctx$|max_seq(uence)?_len(gth)?$|^context_length$|^max_2d_pos|^max_(source|target)_positions$|^position_embedding_size$"
)
_WINDOW = re.compile(
    r"^(sliding_window|window_size|attention_window_size|sliding_window_size|local_attention|local_attention_window_len)$"
)


def small_counts(config: Any, layers: int = 0, *, repeat: int = 1) -> dict[str, Any]:
    """Small values of all counts of a config.

    Args:
        config: parsed.
        layers: not used: there are as many layers as kinds of them.
        repeat: how many layers of each kind.

    Returns:
        Path of a field -> value.
    """
    kept = getattr(type(config), "kept_counts", ())  # inputs that the caller gives fit them
    return {
        joined(path, name): value
        for path, section in all_sections(config)
        for name, value in _of_section(_apart(section), repeat).items()
        if name not in kept
    }


@dataclass(frozen=True)
class SmallCounts:
    """`small_counts` as the ``twin`` of a declaration.

    Args:
        repeat: how many layers of each kind.
    """

    repeat: int = 1

    def __call__(self, config: Any, layers: int) -> dict[str, Any]:
        return small_counts(config, layers, repeat=self.repeat)


def _apart(section: Any) -> dict[str, Any]:
    """The fields of a section without sizes that are listed layer by layer and may be one number for
    all: they are no counts."""
    fields = entries(section).items()
    return {name: value for name, value in fields if size_in(name, value) is value or not takes_one(section, name)}


def with_counts(config: Mapping[str, Any]) -> Config:
    """The config with small counts and the user's sizes."""
    base = Config.of(config)
    fields = copy.deepcopy(dict(base))
    known = small_counts(base.parsed)
    for path, value in known.items():
        section_at(fields, path).update(dict.fromkeys(spellings(base, path), value))
    return Config(fields)


def _of_section(fields: Mapping[str, Any], repeat: int) -> dict[str, Any]:
    small = small_layers(fields, repeat)
    groups = next((value for name, value in fields.items() if _GROUPS.search(name) and type(value) is int), None)
    for name, value in fields.items():
        if name in small or type(value) is not int or value <= 0:
            continue
        if "vocab" in name and not re.search(r"^type_|^task_|offset", name) and value > VOCABULARY:
            small[name] = VOCABULARY
        elif _POSITIONS.search(name):
            small[name] = min(value, POSITIONS)
        elif _EXPERTS.search(name) and value > 1:
            small[name] = 6 if groups else min(value, EXPERTS)
        elif _CHOSEN.search(name):
            small[name] = min(value, CHOSEN)
        elif _GROUPS.search(name):
            small[name] = min(value, 3)
        elif name == "topk_group":
            small[name] = min(value, 2)
        elif _WINDOW.search(name):
            small[name] = min(value, WINDOW)
        elif name in ("patch_size", "num_mel_bins"):
            small[name] = value
        elif name == "image_size":
            small[name] = min(value, 2 * patch) if type(patch := fields.get("patch_size")) is int else value
        elif name in ("chunk_size", "mamba_chunk_size"):  # of a scan over time
            small[name] = min(value, CHUNK)
        elif name == "zero_expert_num":
            small[name] = min(value, 2)
    return small
