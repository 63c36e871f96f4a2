"""Random sounds in the forms that model classes take, one candidate after another."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from transformers import PreTrainedConfig

from growth.proof.pixels import ROWS, Inputs, Look

MASKS = ("input_features_mask", "feature_attention_mask", "audio_attention_mask")
"""Arguments that say which frames of a spectrogram are sound."""


def sound_candidates(config: PreTrainedConfig, taken: Collection[str]) -> Iterator[Inputs]:
    """Keyword arguments with random sounds, one for each row: spectrograms or waves.

    Args:
        config: of the model.
        taken: the arguments that the class's ``forward`` takes.
    """
    look = Look(config)
    masks = [name for name in MASKS if name in taken]
    bins = look.number(
        ("num_mel_bins", "n_mel_bins", "input_feat_size", "feature_size", "input_dim", "feature_projection_input_dim"),
        80,
    )
    lengths = [2 * look.number(("max_source_positions",), 64), 128, 64, 200]
    for name in ("input_features", "audio_input_features"):
        if name not in taken:
            continue
        for frames in dict.fromkeys(lengths):
            for shape in ((ROWS, bins, frames), (ROWS, frames, bins)):
                sound = {name: look.random(*shape)}
                if masks:
                    yield {**sound, **dict.fromkeys(masks, torch.ones(ROWS, frames, dtype=torch.long))}
                    yield {**sound, **dict.fromkeys(masks, torch.ones(ROWS, frames, dtype=torch.bool))}
                yield sound
    for name in ("input_values", "audio_values"):
        if name not in taken:
            continue
        for length in (1600, 6400, 16000):
            yield {name: look.random(ROWS, length)}
            yield {name: look.random(ROWS, 1, length)}
