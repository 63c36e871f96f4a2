"""Counts of a miniature that images have to do with: patches, positions of patches, and the layers that
a tower hands on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from growth.architectures.sections import joined
from growth.hf.nested import plain_fields
from growth.infer.layers import SmallStack


def image_counts(fields: Mapping[str, Any], grid: int, sections: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Images of ``grid`` patches a side, and tables of positions for as many.

    Args:
        fields: of one section.
        grid: from `growth.proof.patch_grid`.
        sections: all of them: where one counts the images and another one the patches.

    Example:
        >>> dict(image_counts({"image_size": 336, "patch_size": 14}, 4, {}))
        {'image_size': 56}
    """
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


def _patch_of_all(sections: Mapping[str, Any]) -> int:
    patches = (plain_fields(section).get("patch_size") for section in sections.values())
    return next((patch for patch in patches if type(patch) is int), 8)


def _scaled(patch: Any, image: Any, grid: int) -> Any:
    side = patch[0] if isinstance(patch, list) else patch
    return [side * grid] * len(image) if isinstance(image, list) else side * grid


def layers_handed_on(sections: Mapping[str, Any], stacks: Mapping[str, SmallStack]) -> dict[str, Any]:
    """Fields that name layers of other sections, such as ``vision_feature_layer``.

    Args:
        sections: path -> section.
        stacks: path -> the layers that it has in the miniature.

    Example:
        >>> from types import SimpleNamespace
        >>> sections = {"": SimpleNamespace(vision_feature_layer=-2), "vision_config": SimpleNamespace()}
        >>> layers_handed_on(sections, {"vision_config": SmallStack({}, [0, 1], 24)})
        {'vision_feature_layer': -2}
    """
    found: dict[str, Any] = {}
    vision = next((stack for path, stack in stacks.items() if "vision" in path and stack.picked), SmallStack())
    text = next((stack for path, stack in stacks.items() if "text" in path and stack.picked), SmallStack())
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


def _renumbered(value: Any, stack: SmallStack) -> Any:
    """Numbers of layers, from the end where negative, in a stack that became shallow."""
    few = len(stack.picked)
    if isinstance(value, list):
        return [_renumbered(entry, stack) for entry in value]
    if type(value) is not int or not few:
        return value
    if value < 0:
        return max(value, -few)
    return min(few - 1, value * few // stack.total)
