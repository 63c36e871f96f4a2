"""Inputs for `coverage.py`: images, sounds, text, whatever a class takes, and whether its outputs depend on them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from coverage_exact import Float64, difference, run
from coverage_tables import VOCABULARY
from torch import Tensor
from transformers import PreTrainedModel

from growth.proof.modal_inputs import modal_inputs

Inputs = dict[str, Any]

MODAL = frozenset(
    {
        *("pixel_values", "pixel_values_images", "flattened_patches", "image_patches", "audio_input_features"),
        *("input_features", "input_values", "audio_values"),
    }
)
"""Arguments of ``forward`` that hold images or sounds."""

LEAST = 1e-6
"""By how much outputs must change, next to their size, when an input is another one."""


def inputs_for(model: PreTrainedModel) -> tuple[Inputs, dict[str, Tensor], bool]:
    """The first inputs under which a model runs and on which its outputs depend, with images or sounds where the class
    takes some.

    Returns:
        The inputs, the outputs, and whether a class that takes images or sounds was given text alone.

    Raises:
        ValueError: if there are none, saying what was tried.
    """
    taken = MODAL & {*inspect.signature(type(model).forward).parameters}
    modal = bool(taken) or any(getattr(model.config, f"{part}_config", None) for part in ("vision", "audio"))
    failures: list[str] = []
    for candidate in _candidates(model, modal, failures):
        try:
            outputs = run(model, candidate)
            ignored = [name for name in candidate if not _matters(model, candidate, name, outputs)]
        except Exception as error:
            failures.append(f"{', '.join(candidate)}: {type(error).__name__} {str(error)[:90]}")
            continue
        if not ignored:
            return candidate, outputs, modal and not MODAL & {*candidate}
        failures.append(f"{', '.join(candidate)}: {', '.join(ignored)} does not matter")
    raise ValueError(" | ".join(failures)[:900])


def _matters(model: PreTrainedModel, inputs: Inputs, name: str, outputs: dict[str, Tensor]) -> bool:
    """Whether the outputs change with other values of an input; True for masks, grids and positions."""
    value = inputs[name]
    generator = torch.Generator().manual_seed(8)
    if isinstance(value, Tensor) and value.is_floating_point():
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        other = value + 0.5 * noise.to(value.dtype) * (value != 0)
    elif name in ("input_ids", "decoder_input_ids"):
        other = value.clone()
        other[:, -1] = torch.where(value[:, -1] == 41, 42, 41)
    else:
        return True
    changed = run(model, {**inputs, name: other})
    return any(difference(outputs[key], changed[key]) > LEAST * float(outputs[key].abs().max()) for key in outputs)


def _candidates(model: PreTrainedModel, modal: bool, failures: list[str]) -> Iterator[Inputs]:
    """Inputs to try: with images or sounds and text, with one of them, with text."""
    parameters = inspect.signature(type(model).forward).parameters
    if modal and {"input_ids", "decoder_input_ids"} & {*parameters}:
        try:
            with Float64():
                yield modal_inputs(model)
        except Exception as error:
            failures.append(f"{type(error).__name__}: {str(error)[:200]}")
    config = model.config
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(40, VOCABULARY, (2, 30), generator=generator)
    decoder = {"decoder_input_ids": ids[:, :17]}

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    bands = getattr(config, "num_mel_bins", None) or 8
    frames = 2 * (getattr(config, "max_source_positions", None) or 32)
    pixels, waves = {"pixel_values": _images(config, noise)}, {"input_values": noise(2, 1600)}
    features = [{"input_features": noise(2, bands, frames)}, {"input_features": noise(2, frames, bands)}]
    text = {"input_ids": ids}
    first: dict[str, list[Inputs]] = {
        "pixel_values": [pixels, {**pixels, **text}, {**pixels, **decoder}],
        "input_values": [waves, {**waves, **decoder}],
        "input_features": [*({**feature, **decoder} for feature in features), *features],
    }
    yield from first.get(getattr(type(model), "main_input_name", "input_ids"), [])
    if config.is_encoder_decoder:
        yield from ({**given, **decoder} for given in (text, pixels, waves))
    yield from (text, {**pixels, **text}, pixels, waves, *features, {**text, **decoder})


def _images(config: Any, noise: Any) -> Tensor:
    section = getattr(config, "vision_config", None) or config
    size = getattr(section, "image_size", None) or 32
    sides = [size] * 2 if isinstance(size, int) else list(size)
    channels = getattr(section, "num_channels", None) or 3
    return noise(2, channels if isinstance(channels, int) else 3, *(sides if len(sides) == 2 else [32, 32]))
