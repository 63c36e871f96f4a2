"""Whisper: convolutions over a spectrogram, then a pre-norm encoder and decoder, both with
position tables.

A GELU writes the encoder's residual stream, so its copies are plain copies (write = 1). The norm
after the encoder leaves into the same space, because a classifier may take a weighted sum of the
outputs of all layers.
"""

from __future__ import annotations

from dataclasses import replace

from growth.architectures import (
    FINAL,
    FIXED_EPSILON,
    NORMED,
    RESIDUAL,
    Copied,
    Dual,
    Keeps,
    LayerNorm,
    Linear,
    Size,
    Space,
    Variant,
    convolution,
    embedding,
    linear,
    norm,
)
from growth.architectures.families.bart import BART, STACK_LAWS, stack

SOUND = Space("sound", "hidden_size")


HEARD = Space("encoder residual", "hidden_size")


PROJECTED = Space("projected", "classifier_proj_size")


WHISPER = replace(
    BART,
    model_type="whisper",
    modules={
        "encoder.conv1": convolution(None, SOUND),
        "encoder.conv2": convolution(SOUND, HEARD),
        "encoder.embed_positions": embedding(HEARD),
        **stack("encoder", NORMED, HEARD, HEARD),
        "encoder.layer_norm": norm(HEARD, HEARD),
        "decoder.embed_tokens": embedding(RESIDUAL),
        "decoder.embed_positions": embedding(RESIDUAL),
        **stack("decoder", NORMED, HEARD),
        "decoder.layer_norm": norm(RESIDUAL, FINAL),
        "proj_out": linear(FINAL),
        "": {"layer_weights": (Keeps(),)},
        "projector": linear(HEARD, PROJECTED),
        "classifier": linear(PROJECTED),
    },
    laws={
        SOUND: Copied(),
        HEARD: LayerNorm(elementwise=True),
        RESIDUAL: LayerNorm(),
        NORMED: Linear(RESIDUAL),
        FINAL: Dual(RESIDUAL),
        PROJECTED: Linear(),
        **STACK_LAWS,
    },
    outputs={
        "last_hidden_state": FINAL,
        "encoder_last_hidden_state": HEARD,
        "hidden_states": RESIDUAL,
        "encoder_hidden_states": HEARD,
        "decoder_hidden_states": RESIDUAL,
    },
    sizes={**BART.sizes, "classifier_proj_size": Size("classifier_proj_size", small=23)},
    for_config=None,
    constants={name: value for name, value in BART.constants.items() if name != "embedding_scale"},
    vouched={
        **{
            name: values
            for name, values in BART.vouched.items()
            if not name.startswith(("normalize", "add_", "static", "extra", "force_"))
        },
        **dict.fromkeys(
            (
                "num_mel_bins",
                "max_source_positions",
                "max_target_positions",
                "use_weighted_layer_sum",
                "median_filter_width",
            )
        ),
        **dict.fromkeys(("apply_spec_augment", "mask_time_prob", "mask_time_length", "mask_time_min_masks")),
        **dict.fromkeys(("mask_feature_prob", "mask_feature_length", "mask_feature_min_masks", "forced_decoder_ids")),
    },
    variants={"WhisperForAudioClassification": Variant(outputs={"hidden_states": HEARD, "hidden_states.last": HEARD})},
    computed=("encoder.embed_positions.weight",),
    buffers=(),
    refuses=(
        FIXED_EPSILON.unless("there is no decoder", lambda asked: asked.model_class.endswith("AudioClassification")),
    ),
    positions="learned, and stored sinusoids",
    branches=({}, {"use_weighted_layer_sum": True, "tie_word_embeddings": False, "activation_function": "relu"}),
)
