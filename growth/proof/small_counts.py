"""Counts of a miniature, section by section: layers, tokens, positions, patches, experts. They make
a model large and touch no dimension that grows. Everything else stays at the user's value.

The fields are written by the miniature (`growth.proof.miniature`) through `Architecture.twin`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from transformers import PreTrainedConfig

from growth.architectures.sections import joined
from growth.hf.nested import nested_sections, plain_fields
from growth.proof.small_layers import small_layers
from growth.proof.special_tokens import small_tokens

COUNTS = {
    "max_position_embeddings": 160,
    "max_sequence_length": 160,
    "n_positions": 160,
    "max_source_positions": 160,
    "max_target_positions": 160,
    "max_2d_position_embeddings": 64,
    "sliding_window": 5,
    "sliding_window_size": 5,
    "attention_chunk_size": 8,
    "index_topk": 7,
    "index_block_size": 4,
    "index_topk_blocks": 2,
    "position_embedding_size": 64,
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
    "codebook_size": 32,
    "resolution": 64,
    "num_landmarks": 4,
    "num_embeddings": 32,
    "ngram_vocab_size_base": 64,
    "rel_extent": 16,
    "canvas_length": 8,
}
"""Config field -> the most it is in a miniature."""

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "n_experts")
CHOSEN = ("num_experts_per_tok", "moe_topk", "moe_k", "moe_top_k", "top_k_experts", "num_experts_per_token")
GROUPS = ("n_group", "num_expert_group")
CHOSEN_GROUPS = ("topk_group",)


def small_counts(config: PreTrainedConfig, layers: int = 2) -> dict[str, Any]:
    """What a miniature writes for the counts of all sections.

    Args:
        config: the user's, parsed.
        layers: how many layers each stack has at least.

    Returns:
        Path of a field -> its value in the miniature.

    Example:
        >>> from transformers import LlavaConfig
        >>> found = small_counts(LlavaConfig())
        >>> found["vision_config.image_size"], found["text_config.num_hidden_layers"]
        (56, 2)
    """
    sections = nested_sections(config)
    found = small_tokens(sections)
    depths: dict[str, Mapping[int, int]] = {}
    grid = patch_grid(sections)
    for path, section in sections.items():
        fields = plain_fields(section)
        written, numbers = small_layers(fields, layers)
        depths[path] = numbers
        for name, value in (*written.items(), *_plain(fields), *_experts(fields), *_images(fields, grid, sections)):
            found[joined(path, name)] = value
    found |= _layer_numbers(sections, depths)
    return found


KEPT = ("patch_size", "num_mel_bins", "encoder_stride", "image_size", "max_source_positions")
"""Fields that the miniature of a declared family makes small, and that stay where nothing else
writes them: kernels."""


def _plain(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from ((name, fields[name]) for name in KEPT if fields.get(name) is not None)
    for name, most in COUNTS.items():
        if type(value := fields.get(name)) is int:
            yield name, min(value, most)
    if type(top := fields.get("index_topk")) is int and type(pool := fields.get("index_kpool")) is int:
        yield "index_topk", min(top, pool)
    if type(seen := fields.get("window_size")) is int and "spatial_merge_size" in fields:
        yield "window_size", min(seen, 2 * fields["patch_size"] * fields["spatial_merge_size"])


def _experts(fields: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Few experts, in as many groups as the user's but at most two, of which as many are chosen."""
    groups = next((fields[name] for name in GROUPS if type(fields.get(name)) is int), 1)
    few = min(groups, 2)
    yield from ((name, few) for name in GROUPS if type(fields.get(name)) is int)
    for name in CHOSEN_GROUPS:
        if type(fields.get(name)) is int:
            yield name, min(fields[name], max(1, few - 1) if groups > 1 else 1)
    for name in EXPERTS:
        if type(fields.get(name)) is int and fields[name] > 0:
            yield name, min(fields[name], 6)
    for name in CHOSEN:
        if type(fields.get(name)) is int and fields[name] > 0:
            yield name, min(fields[name], 2)


MERGES = ("spatial_merge_size", "downsample_factor", "scale_factor", "adapter_merge_size", "merge_size")


def patch_grid(sections: Mapping[str, PreTrainedConfig]) -> int:
    """How many patches a side of a miniature's image has: an even number of times what is merged
    into one.

    Example:
        >>> from transformers import Idefics3Config
        >>> patch_grid(nested_sections(Idefics3Config()))
        4
    """
    merged = 1
    for section in sections.values():
        fields = plain_fields(section)
        merged = max(merged, *(fields[name] for name in MERGES if type(fields.get(name)) is int), 1)
        for name in ("pixel_shuffle_ratio", "downsample_ratio"):
            if isinstance(ratio := fields.get(name), float) and ratio > 0:
                merged = max(merged, round(1 / ratio))
        if isinstance(kernel := fields.get("merge_kernel_size"), list):
            merged = max(merged, *kernel)
        if "window_kernel_size" in fields:
            merged = max(merged, 4)
        if isinstance(rate := fields.get("downsample_rate"), str):  # "4/8": four queries a side of a window of eight
            merged = max(merged, int(rate.partition("/")[2]) // 2)
        if {"output_channels", "downsample_channels"} & fields.keys():
            merged = max(merged, 4)
    return max(4, 2 * merged)


def _images(
    fields: Mapping[str, Any], grid: int, sections: Mapping[str, PreTrainedConfig]
) -> Iterator[tuple[str, Any]]:
    """Images of ``grid`` patches a side, and tables of positions for as many."""
    patch = fields.get("patch_size")
    if isinstance(patch, list) and patch and "patch_stride" in fields:
        return
    if (image := fields.get("image_size")) is not None:
        side = patch if patch is not None else _patch_of_all(sections)
        yield "image_size", _scaled(side, image, grid)
    if type(fields.get("num_position_embeddings")) is int:
        yield "num_position_embeddings", grid * grid
    if type(number := fields.get("num_patches")) is int and math.isqrt(number) ** 2 == number and number > 100:
        yield "num_patches", grid * grid
    if type(fields.get("max_position_embeddings")) is int and "patch_size" in fields and "vocab_size" not in fields:
        yield "max_position_embeddings", grid * grid
    for name, value in fields.items():
        if name.endswith("patch_to_query_dict") and isinstance(value, dict):
            yield name, {grid * grid: 4}
    if isinstance(fields.get("image_grid_pinpoints"), list):
        sides = [plain_fields(section).get("image_size") for section in sections.values()]
        patches = [plain_fields(section).get("patch_size") for section in sections.values()]
        if any(type(side) is int for side in sides):
            side = grid * next(patch for patch in patches if type(patch) is int)
            yield "image_grid_pinpoints", [[side, 2 * side], [2 * side, side], [2 * side, 2 * side]]


def _patch_of_all(sections: Mapping[str, PreTrainedConfig]) -> int:
    patches = (plain_fields(section).get("patch_size") for section in sections.values())
    return next((patch for patch in patches if type(patch) is int), 8)


def _scaled(patch: Any, image: Any, grid: int) -> Any:
    side = patch[0] if isinstance(patch, list) else patch
    return [side * grid] * len(image) if isinstance(image, list) else side * grid


def _layer_numbers(
    sections: Mapping[str, PreTrainedConfig], depths: Mapping[str, Mapping[int, int]]
) -> dict[str, Any]:
    """Fields that name layers of other sections, such as ``vision_feature_layer``."""
    found: dict[str, Any] = {}
    vision = next((numbers for path, numbers in depths.items() if "vision" in path and numbers), {})
    text = next((numbers for path, numbers in depths.items() if "text" in path and numbers), {})
    for path, section in sections.items():
        fields = plain_fields(section)
        for name, value in fields.items():
            layered = name.endswith(("feature_layer", "vision_layer", "feature_layers"))
            if layered and value is not None:
                found[joined(path, name)] = _renumbered(value, vision)
            elif name.endswith("target_layers") and isinstance(value, list):
                found[joined(path, name)] = _renumbered(value, text)
            elif name.endswith("layer_map") and isinstance(value, list):
                found[joined(path, name)] = [[_renumbered(a, vision), _renumbered(b, text)] for a, b in value]
            elif name == "insert_layer_id" and type(value) is int:
                found[joined(path, name)] = 0
    return found


def _renumbered(value: Any, numbers: Mapping[int, int]) -> Any:
    """Numbers of layers, from the end where negative, in a stack that became shallow."""
    deep, few = max(numbers, default=1) + 1, len({*numbers.values()})
    if isinstance(value, list):
        return [_renumbered(entry, numbers) for entry in value]
    if type(value) is not int or not few:
        return value
    if value < 0:
        return max(value, -few)
    return min(few - 1, value * few // deep)
