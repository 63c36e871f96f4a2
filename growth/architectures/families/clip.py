"""CLIP: a text and an image Transformer, pre-norm with learned positions. Each is projected into a
common space, which does not grow.

The text is read at its end-of-sequence token. The image is read at its class token, which is normed
together with the patches.
"""

from __future__ import annotations

from dataclasses import replace

from growth.architectures import (
    FFN_LAWS,
    FINAL,
    NORMED,
    RESIDUAL,
    Architecture,
    Law,
    LayerNorm,
    Linear,
    Rule,
    Size,
    Space,
    Variant,
    Writes,
    attention,
    attention_laws,
    attention_scale,
    convolution,
    embedding,
    feed_forward,
    linear,
    norm,
    standard_sizes,
    tower,
    under,
    within,
)

_ATTENTION = attention("q_proj", "k_proj", "v_proj", "out_proj", reads=NORMED, writes=RESIDUAL)


_FEED_FORWARD = feed_forward(("fc1",), "fc2", reads=NORMED, writes=RESIDUAL)


LAYERS: dict[str, Rule] = {
    **under("encoder.layers.*.self_attn", _ATTENTION),
    **under("encoder.layers.*.mlp", _FEED_FORWARD),
    "encoder.layers.*.layer_norm1": norm(RESIDUAL, NORMED),
    "encoder.layers.*.layer_norm2": norm(RESIDUAL, NORMED),
}


LAWS: dict[Space, Law] = {
    RESIDUAL: LayerNorm(),
    NORMED: Linear(RESIDUAL),
    FINAL: Linear(RESIDUAL),
    **FFN_LAWS,
    **attention_laws(),
}


VISION_SIZES = {
    **standard_sizes(),
    "hidden_size": Size("hidden_size", small=20),
    "intermediate_size": Size("intermediate_size", small=31),
    "num_attention_heads": Size("num_attention_heads", "heads", small=4),
}
"""In the twin, an image tower shares no size with a text tower."""


CLIP_TEXT = Architecture(
    model_type="clip_text_model",
    modules={
        "embeddings.token_embedding": embedding(RESIDUAL),
        "embeddings.position_embedding": embedding(RESIDUAL),
        **LAYERS,
        "final_layer_norm": norm(RESIDUAL, FINAL),
        "text_projection": linear(FINAL),
    },
    laws=LAWS,
    outputs={
        "hidden_states": RESIDUAL,
        "hidden_states.last": RESIDUAL,
        "last_hidden_state": FINAL,
        "pooler_output": FINAL,
    },
    epsilon="layer_norm_eps",
    prefixes=("text_model",),
    constants={"attention_scale": attention_scale},
    vouched=dict.fromkeys(
        ("hidden_act", "attention_dropout", "dropout", "initializer_range", "initializer_factor", "projection_dim")
    ),
    buffers=("embeddings.position_ids",),
    branches=({}, {"hidden_act": "relu", "eos_token_id": 2}),
    classes=("CLIPTextModelWithProjection",),
)


CLIP_VISION = replace(
    CLIP_TEXT,
    model_type="clip_vision_model",
    modules={
        "embeddings": {"class_embedding": (Writes(RESIDUAL),)},
        "embeddings.patch_embedding": convolution(None, RESIDUAL, kernel=2),
        "embeddings.position_embedding": embedding(RESIDUAL),
        "pre_layrnorm": norm(RESIDUAL, RESIDUAL),
        **LAYERS,
        "post_layernorm": norm(RESIDUAL, FINAL),
        "visual_projection": linear(FINAL),
    },
    outputs={"hidden_states": RESIDUAL, "last_hidden_state": RESIDUAL, "pooler_output": FINAL},
    prefixes=("vision_model",),
    sizes=VISION_SIZES,
    vouched={**CLIP_TEXT.vouched, **dict.fromkeys(("image_size", "patch_size", "num_channels"))},
    branches=({}, {"hidden_act": "gelu", "num_channels": 1}),
    classes=("CLIPVisionModelWithProjection",),
)


TEXT, VISION = "text_config.", "vision_config."


_TEXT, _VISION = tower(CLIP_TEXT, "text_config", "text_model"), tower(CLIP_VISION, "vision_config", "vision_model")


SEEN = within(VISION, RESIDUAL)


CLIP = Architecture(
    model_type="clip",
    modules={
        **_TEXT.modules,
        **_VISION.modules,
        "text_projection": within(TEXT, linear(FINAL)),
        "visual_projection": within(VISION, linear(FINAL)),
        "": {"logit_scale": ()},
        "classifier": linear(SEEN),
    },
    laws={**_TEXT.laws, **_VISION.laws},
    outputs={},
    epsilon=CLIP_TEXT.epsilon,
    prefixes=("clip",),
    sizes={**_TEXT.sizes, **_VISION.sizes},
    constants={**_TEXT.constants, **_VISION.constants},
    vouched={
        **_TEXT.vouched,
        **_VISION.vouched,
        **dict.fromkeys(("projection_dim", "logit_scale_init_value", "initializer_factor")),
    },
    variants={"CLIPForImageClassification": Variant(outputs={"hidden_states": SEEN, "hidden_states.last": SEEN})},
    buffers=(*_TEXT.buffers, *_VISION.buffers),
    arithmetic={},
    branches=({}, {"text_config": {"eos_token_id": 2, "hidden_act": "gelu"}, "vision_config": {"num_channels": 1}}),
)
