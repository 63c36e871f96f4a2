"""How many patches an image of a miniature has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from growth.hf.nested import plain_fields

MERGES = ("spatial_merge_size", "downsample_factor", "scale_factor", "adapter_merge_size", "merge_size")


def patch_grid(sections: Mapping[str, Any]) -> int:
    """How many patches a side of a miniature's image has: an even number of times what is merged
    into one.

    Example:
        >>> from transformers import Idefics3Config
        >>> from growth.hf.nested import nested_sections
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
