"""Small counts for a miniature of a model that nobody declared: layers, vocabularies, positions,
experts, patches. They make a model large, and none of them touches a dimension that grows."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from growth.architectures.sections import joined
from growth.hf.config_json import section_at, spellings
from growth.hf.configs import Config
from growth.hf.nested import nested_sections, plain_fields
from growth.hf.own_configs import OwnConfigWrapper
from growth.infer.fields import size_in, split, takes_one
from growth.infer.image_counts import image_counts, layers_handed_on
from growth.infer.layers import SmallStack, small_layers
from growth.proof.miniature import WINDOW
from growth.proof.patch_grid import patch_grid
from growth.proof.special_tokens import VOCABULARIES, VOCABULARY, small_tokens

POSITIONS = 160
"""More than the tokens of a text with an image in it."""
EXPERTS, IN_GROUPS, CHOSEN = 5, 6, 3
"""Experts of a miniature; where they fall into two or three groups; how many of them a token takes."""
CHUNK = 8

MOST = {
    "max_2d_position_embeddings": 64,
    "position_embedding_size": 64,
    "attention_chunk_size": 8,
    "index_topk": 7,
    "index_block_size": 4,
    "index_topk_blocks": 2,
    "pos_emb_height": 8,
    "pos_emb_width": 8,
    "img_max_token_num": 64,
    "max_num_patches": 64,
    "seq_len": 64,
    "max_image_size": 128,
    "max_img_size": 256,
    "latent_query_num": 4,
    "num_query_tokens": 4,
    "num_image_tokens": 4,
    "num_latents": 4,
    "resampler_n_latents": 4,
    "resampler_num_latents": 4,
    "mm_tokens_per_image": 4,
    "vision_soft_tokens_per_image": 4,
    "audio_soft_tokens_per_image": 4,
    "codebook_size": 64,
    "resolution": 64,
    "num_landmarks": 4,
    "num_embeddings": 32,
    "ngram_vocab_size_base": 64,
    "rel_extent": 16,
    "canvas_length": 8,
    "mamba_chunk_size": CHUNK,
    "zero_expert_num": 2,
}
"""Config field -> the most it is in a miniature."""

_EXPERTS = re.compile(r"^(num_experts|num_local_experts|n_routed_experts|moe_num_experts|n_experts|num_moe_experts)$")
_CHOSEN = re.compile(
    r"^(num_experts_per_tok(en)?|moe_k|moe_top_?k|moe_num_experts_per_tok|top_k_experts|experts_per_token"
    r"|num_selected_experts)$"
)
_GROUPS = re.compile(r"^(n_group|num_expert_group)$")
_POSITIONS = re.compile(
    r"max_position_embeddings$|^n_positions$|^n_ctx$|max_seq(uence)?_len(gth)?$|^context_length$"
    r"|^max_(source|target)_positions$"
)
_WINDOW = re.compile(
    r"^(sliding_window|attention_window_size|sliding_window_size|local_attention|local_attention_window_len)$"
)
_NO_VOCABULARY = re.compile(r"^type_|^task_|offset")

KEPT = ("patch_size", "num_mel_bins", "encoder_stride", "image_size")
"""Fields that the miniature of a declared family makes small, and that stay where nothing else
writes them: kernels."""


def small_counts(config: Any, layers: int = 0, *, repeat: int = 1) -> dict[str, Any]:
    """Small values of all counts of a config.

    Args:
        config: parsed.
        layers: not used: there are as many layers as kinds of them.
        repeat: how many layers of each kind.

    Returns:
        Path of a field -> value.

    Example:
        >>> from transformers import LlavaConfig
        >>> found = small_counts(LlavaConfig())
        >>> found["vision_config.image_size"], found["text_config.num_hidden_layers"]
        (56, 2)
    """
    sections, stacks = nested_sections(config), small_stacks(config, repeat)
    grid = patch_grid(sections)
    found = small_tokens(sections)
    for path, section in sections.items():
        fields = plain_fields(section)
        few = stacks[path].fields
        if isinstance(config, OwnConfigWrapper) and not _deep(fields, few):
            few = {}  # code that nobody has seen may tell layers apart by their number
        found |= {joined(path, name): value for name, value in _plain(fields) if name not in few}
        counted = (*few.items(), *_experts(fields), *image_counts(fields, grid, sections))
        found |= {joined(path, name): value for name, value in counted}
    found |= layers_handed_on(sections, stacks)
    kept = getattr(type(config), "kept_counts", ())  # inputs that the caller gives fit them
    return {
        path: value
        for path, value in found.items()
        if not (kept and ((name := split(path)[1]) in kept or _OF_INPUTS.search(name)))
    }


OWN_LAYERS = 32
"""The most layers that the miniature of a caller's module has; a deeper one has few of every kind."""


def _deep(fields: Mapping[str, Any], few: Mapping[str, Any]) -> bool:
    return any(type(fields.get(name)) is int and fields[name] > OWN_LAYERS for name in few)


def small_stacks(config: Any, repeat: int = 1) -> dict[str, SmallStack]:
    """Path of a section -> its layers in the miniature.

    Args:
        config: parsed.
        repeat: how many layers of each kind.

    Example:
        >>> from transformers import LlavaConfig
        >>> small_stacks(LlavaConfig())["vision_config"].picked
        [0, 1]
    """
    return {path: small_layers(_apart(section), repeat) for path, section in nested_sections(config).items()}


_OF_INPUTS = re.compile(r"vocab|position|image|patch|mel_bins|n_ctx|max_seq|context_length")
"""Counts that inputs must fit."""


@dataclass(frozen=True)
class SmallCounts:
    """`small_counts` as the ``twin`` of a declaration.

    Args:
        repeat: how many layers of each kind.
        lists: path -> widths that the config lists, and that stay.

    Example:
        >>> from transformers import LlavaConfig
        >>> SmallCounts()(LlavaConfig(), 2)["vision_config.image_size"]
        56
    """

    repeat: int = 1
    lists: Mapping[str, list[int]] = field(default_factory=dict)

    def __call__(self, config: Any, layers: int) -> dict[str, Any]:
        found = small_counts(config, repeat=self.repeat)
        if self.lists:
            stacks = small_stacks(config, self.repeat)
            found |= {path: self._as_long(value, stacks[split(path)[0]]) for path, value in self.lists.items()}
        return found

    @staticmethod
    def _as_long(value: list[int], stack: SmallStack) -> list[int]:
        """One with an entry for each layer, for those that the miniature has."""
        return value[: len(stack.picked)] if len(value) == stack.total else value


def with_counts(config: Mapping[str, Any]) -> Config:
    """The config with small counts and the user's sizes.

    Example:
        >>> with_counts({"model_type": "llama", "hidden_size": 64})["num_hidden_layers"]
        2
    """
    base = Config.of(config)
    fields = copy.deepcopy(dict(base))
    known = small_counts(base.parsed)
    for path, value in known.items():
        section_at(fields, path).update(dict.fromkeys(spellings(base, path), value))
    return Config(fields)


def _apart(section: Any) -> dict[str, Any]:
    """The fields of a section without sizes that are listed layer by layer and may be one number for
    all: they are no counts."""
    fields = plain_fields(section).items()
    return {name: value for name, value in fields if size_in(name, value) is value or not takes_one(section, name)}


def _plain(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The counts of one section that stand alone."""
    yield from ((name, fields[name]) for name in KEPT if fields.get(name) is not None)
    of_text = "vocab_size" in fields
    for name, value in fields.items():
        if type(value) is not int or value <= 0:
            continue
        if name in MOST:
            yield name, min(value, MOST[name])
        elif "vocab" in name and name not in VOCABULARIES and not _NO_VOCABULARY.search(name):
            yield name, min(value, VOCABULARY)
        elif _POSITIONS.search(name):
            yield name, min(value, POSITIONS)
        elif _WINDOW.search(name) or (name == "window_size" and of_text):
            yield name, min(value, WINDOW)
        elif name == "chunk_size" and of_text:  # of a scan over time
            yield name, min(value, CHUNK)
    if type(top := fields.get("index_topk")) is int and type(pool := fields.get("index_kpool")) is int:
        yield "index_topk", min(top, pool, MOST["index_topk"])
    if type(seen := fields.get("window_size")) is int and "spatial_merge_size" in fields:
        yield "window_size", min(seen, 2 * fields["patch_size"] * fields["spatial_merge_size"])


def _experts(fields: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Few experts, in as many groups as the user's but at most three, and as many chosen as there can
    be."""
    counts = {name: value for name, value in fields.items() if type(value) is int and value > 0}
    groups = next((min(value, 3) for name, value in counts.items() if _GROUPS.search(name)), 0)
    top = min(counts.get("topk_group", 1), 2)
    for name, value in counts.items():
        if _GROUPS.search(name):
            yield name, groups
        elif name == "topk_group":
            yield name, top
        elif _EXPERTS.search(name) and value > 1:
            yield name, IN_GROUPS if groups else min(value, EXPERTS)
        elif _CHOSEN.search(name):
            yield name, min(value, CHOSEN, top * (IN_GROUPS // groups) if groups else CHOSEN)
