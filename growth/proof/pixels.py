"""Random images and sounds in the forms that model classes take, one candidate after another."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from growth.hf.nested import nested_sections, plain_fields
from growth.proof.patch_grid import patch_grid

Inputs = dict[str, Any]

ROWS = 2
"""Rows of a batch; each has one image."""


def image_candidates(config: PreTrainedConfig, taken: Collection[str]) -> Iterator[Inputs]:
    """Keyword arguments with random images, two of them, one for each row of a batch.

    Args:
        config: of the model.
        taken: the arguments that the class's ``forward`` takes.

    Yields:
        Candidates in the order of how much they say: patches with their grid, patches with their
        positions, tiles, plain images ``[2, channels, height, width]``.
    """
    look = Look(config)
    if {"image_grid_thw", "pixel_values"} <= {*taken}:
        yield from _gridded(look, "image_grid_thw", taken)
    if {"image_grid_hw", "pixel_values"} <= {*taken}:
        yield from _gridded(look, "image_grid_hw", taken)
    if {"spatial_shapes", "pixel_values"} <= {*taken}:
        yield look.shaped("spatial_shapes")
    if {"target_sizes", "pixel_values"} <= {*taken}:
        yield from _targeted(look)
    if {"image_position_ids", "pixel_values"} <= {*taken}:
        yield from _positioned(look)
    if "flattened_patches" in taken:
        yield from _flattened(look, taken)
    if "image_patches" in taken:
        yield {"image_patches": look.random(ROWS, look.grid**2, look.channels * look.patch**2)}
    if {"image_token_pooling", "pixel_values"} <= {*taken}:
        yield from _pooled(look)
    name = next((name for name in ("pixel_values", "pixel_values_images") if name in taken), None)
    if name is not None:
        yield from _plain_images(look, name, taken)


class Look:
    """What an image of a model's miniature looks like, from all sections of its config."""

    def __init__(self, config: PreTrainedConfig) -> None:
        sections = nested_sections(config)
        self.all = [plain_fields(section) for section in sections.values()]
        seen = [fields for path, fields in zip(sections, self.all, strict=True) if "vision" in path or "vq" in path]
        self.fields = [*seen, *self.all]
        self.generator = torch.Generator().manual_seed(3)
        self.grid = patch_grid(sections)
        self.channels = self.number(("num_channels", "in_channels"), 3)
        self.patch = self.number(("patch_size",), 8)
        self.frames = self.number(("temporal_patch_size", "patch_temporal"), 1)
        self.merge = self.number(("spatial_merge_size", "merge_size"), 1)
        if self.merge == 1 and (kernel := self.first("merge_kernel_size")) is not None:
            self.merge = kernel[0]
        if self.merge == 1:
            self.merge = self.grid // 2
        size = self.first("image_size")
        if size is None:
            size = self.first("resolution") or self.grid * self.patch
        self.sides: tuple[int, int] = (size, size) if isinstance(size, int) else (size[0], size[1])

    def first(self, name: str) -> Any:
        """The value of a field in the first section that has it."""
        return next((fields[name] for fields in self.fields if fields.get(name) is not None), None)

    def number(self, names: tuple[str, ...], default: int) -> int:
        """A field as a number, the first of a list."""
        for name in names:
            value = self.first(name)
            if isinstance(value, list) and value:
                value = value[0]
            if type(value) is int:
                return value
        return default

    def random(self, *shape: int) -> Tensor:
        """Normal noise."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64).to(torch.get_default_dtype())

    def images(self, *lead: int) -> Tensor:
        """``[*lead, channels, height, width]``."""
        return self.random(*lead, self.channels, *self.sides)

    def shaped(self, name: str) -> Inputs:
        """Patches of two images of different shapes, padded to the longer one."""
        step = max(2, self.grid // 2)
        shapes = torch.tensor([[2 * step, step], [step, 2 * step]])
        longest = int(shapes.prod(1).max()) + step
        mask = torch.arange(longest)[None] < shapes.prod(1)[:, None]
        patches = self.random(ROWS, longest, self.channels * self.patch**2) * mask[..., None]
        return {"pixel_values": patches, name: shapes, "pixel_attention_mask": mask.long()}


def _gridded(look: Look, name: str, taken: Collection[str]) -> Iterator[Inputs]:
    """Patches of all images in one row, and the grid that each image has: ``4 x 6`` and ``6 x 4``
    patches where two by two are merged."""
    step = look.merge
    for a, b, c, d in ((2, 3, 3, 2), (2, 3, 2, 3), (2, 2, 2, 2)):
        shapes = [(a * step, b * step), (c * step, d * step)]
        many = sum(height * width for height, width in shapes)
        rows = [[1, *shape] for shape in shapes] if name.endswith("thw") else [list(shape) for shape in shapes]
        grid = torch.tensor(rows)
        more: Inputs = {name: grid}
        if "image_merge_sizes" in taken:
            more["image_merge_sizes"] = torch.full((ROWS,), 2)
        flat = look.channels * look.patch**2
        yield {"pixel_values": look.random(many, flat * look.frames), **more}
        yield {"pixel_values": look.random(many, look.channels, look.patch, look.patch), **more}
        yield {"pixel_values": look.random(many, look.frames * flat * 2), **more}
        yield {"pixel_values": look.random(many, look.frames, look.patch, look.patch, look.channels), **more}
        sides = (shapes[0][0] * look.patch, shapes[0][1] * look.patch)
        same = [[1, *shapes[0]]] * ROWS if name.endswith("thw") else [list(shapes[0])] * ROWS
        yield {"pixel_values": look.random(ROWS, look.channels, *sides), **more, name: torch.tensor(same)}
        large = look.patch * step
        shown = torch.tensor([[1, a, b], [1, c, d]])
        yield {"pixel_values": look.random(a * b + c * d, large, large, look.channels), **more, name: shown}
        if look.frames == 1:
            yield {"pixel_values": look.random(many, flat), **more}


def _targeted(look: Look) -> Iterator[Inputs]:
    """Patches of all images side by side, ``[1, channels, patch, patches * patch]``."""
    side = look.grid
    target = torch.tensor([[side, side]] * ROWS)
    yield {
        "pixel_values": look.random(1, look.channels, look.patch, ROWS * side * side * look.patch),
        "target_sizes": target,
    }
    yield {
        "pixel_values": look.random(ROWS, look.channels, look.patch, side * side * look.patch),
        "target_sizes": target,
    }


def _positioned(look: Look) -> Iterator[Inputs]:
    """Patches with the column and row of each; -1 where there is none."""
    merge = max(look.number(("pooling_kernel_size",), 1), 1)
    height, width = 2 * merge, 2 * merge
    at = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"), -1).reshape(-1, 2)
    flat = look.channels * look.patch**2
    for wide in (flat, look.number(("patch_dim",), flat), flat * merge**2):
        yield {
            "pixel_values": torch.sigmoid(look.random(ROWS, len(at), wide)),
            "image_position_ids": at[None].expand(ROWS, -1, -1).contiguous(),
        }


def _flattened(look: Look, taken: Collection[str]) -> Iterator[Inputs]:
    """Patches that begin with their row and column, ``[2, patches, 2 + channels * patch ** 2]``."""
    side = 4
    at = torch.cartesian_prod(torch.arange(1, side + 1), torch.arange(1, side + 1)).to(torch.get_default_dtype())
    wide = [look.number(("patch_embed_hidden_size",), 0), look.channels * look.patch**2, 768]
    for flat in wide:
        if flat:
            patches = torch.cat([at[None].expand(ROWS, -1, -1), look.random(ROWS, side * side, flat)], -1)
            yield {"flattened_patches": patches}
            yield {
                "flattened_patches": patches,
                "height": torch.full((ROWS,), side),
                "width": torch.full((ROWS,), side),
            }


def _pooled(look: Look) -> Iterator[Inputs]:
    """One crop of each image, and the four patches that each of its tokens is pooled from."""
    side = look.sides[0] // look.patch
    patches = look.random(ROWS, side * side, look.channels * look.patch**2)
    at = torch.arange(side * side).reshape(side // 2, 2, side // 2, 2).transpose(1, 2).reshape(-1, 4)
    pooling = torch.cat([at + number * side * side for number in range(ROWS)])
    low = at.shape[0]
    yield {
        "pixel_values": patches,
        "image_token_pooling": pooling,
        "image_grids": torch.tensor([[side // 2, side // 2, 0, 0]] * ROWS),
        "image_num_crops": torch.ones(ROWS, dtype=torch.long),
        "_tokens": torch.tensor(low),
    }


def _plain_images(look: Look, name: str, taken: Collection[str]) -> Iterator[Inputs]:
    """Images as they are, in the batch, in one or several to a row, or in tiles."""
    sizes = torch.tensor([list(look.sides)] * ROWS)
    tall = torch.tensor([[2 * look.sides[0], look.sides[1]]] * ROWS)
    if "aspect_ratio_ids" in taken:
        tiles = look.number(("max_num_tiles",), 4)
        mask = torch.zeros(ROWS, 1, tiles, dtype=torch.long)
        mask[:, :, :2] = 1
        yield {
            name: look.images(ROWS, 1, tiles),
            "aspect_ratio_ids": torch.full((ROWS, 1), 2),
            "aspect_ratio_mask": mask,
            "_tiles": torch.tensor(tiles),
        }
    if "num_local_patches" in taken:
        yield {name: look.images(ROWS)}
        yield {name: look.images(ROWS), "num_local_patches": torch.zeros(ROWS, dtype=torch.long)}
        yield {name: look.images(ROWS), "num_local_patches": [0] * ROWS}
    if "high_res_pixel_values" in taken:
        high = [fields["image_size"] for fields in look.fields if type(fields.get("image_size")) is int]
        for side in dict.fromkeys(reversed(high)):
            yield {name: look.images(ROWS), "high_res_pixel_values": look.random(ROWS, look.channels, side, side)}
    if "pixel_attention_mask" in taken:
        mask = torch.ones(ROWS, 1, *look.sides, dtype=torch.long)
        yield {name: look.images(ROWS, 1), "pixel_attention_mask": mask}
        yield {name: look.images(ROWS, 2), "pixel_attention_mask": torch.ones(ROWS, 2, dtype=torch.bool)}
        yield {name: look.images(ROWS, 1)}
    if "tile_fine_mask" in taken:
        yield {name: look.images(ROWS, 1), "tile_fine_mask": torch.ones(ROWS, 1, dtype=torch.bool)}
    if "image_sizes" in taken:
        yield {name: look.images(ROWS, 3), "image_sizes": tall}
        yield {name: look.images(ROWS), "image_sizes": sizes}
    if "image_attention_mask" in taken:
        yield {name: look.images(ROWS, 1), "_image_attention": torch.tensor(1)}
    yield {name: look.images(ROWS)}
    yield {name: look.images(ROWS, 1)}
    yield {name: look.images(ROWS, 2)}
    side = look.grid * look.patch
    if (side, side) != look.sides:
        yield {name: look.random(ROWS, look.channels, side, side)}
    for side in (32, 64, 128):
        yield {name: look.random(ROWS, look.channels, side, side)}
    for side in (64, 32):
        yield {name: look.random(ROWS, side // 16 * side // 16, look.channels * look.patch**2)}


def described(inputs: Mapping[str, Any]) -> str:
    """The shapes of inputs, for messages.

    Example:
        >>> described({"pixel_values": torch.zeros(2, 3)})
        'pixel_values [2, 3]'
    """
    return ", ".join(
        f"{name} {list(value.shape)}" if isinstance(value, Tensor) else f"{name} {type(value).__name__}"
        for name, value in inputs.items()
    )
