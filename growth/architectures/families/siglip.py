"""SigLIP: CLIP without a class token. A learned probe attends to the patches, and the text is
projected to the width of its output.

Text and image are compared at length 1, so the output of the text's head grows by the map of the
image's output.
"""

from __future__ import annotations

from dataclasses import replace

from growth.architectures import (
    ATTENDED,
    FINAL,
    KEYS,
    QUERIES,
    RESIDUAL,
    VALUES,
    Architecture,
    Keeps,
    LayerNorm,
    Linear,
    Reads,
    Size,
    Space,
    Times,
    TwinFields,
    UnitLength,
    Variant,
    Writes,
    convolution,
    embedding,
    feed_forward,
    linear,
    norm,
    tower,
    within,
)
from growth.architectures.families.clip import CLIP_TEXT, CLIP_VISION, LAWS, LAYERS, TEXT, VISION

PROJECTED = Space("projected", "projection_size")


POOLED, PROBED, EMBEDS = (Space(name, "hidden_size") for name in ("pooled", "probed", "embeds"))


_FUSED = QUERIES + KEYS + VALUES


SIGLIP_TEXT = replace(
    CLIP_TEXT,
    model_type="siglip_text_model",
    modules={
        **{name: rule for name, rule in CLIP_TEXT.modules.items() if name != "text_projection"},
        "head": linear(FINAL, PROJECTED),
    },
    laws={**LAWS, PROJECTED: Linear()},
    outputs={**CLIP_TEXT.outputs, "pooler_output": PROJECTED},
    sizes={
        **CLIP_TEXT.sizes,
        "projection_size": Size("projection_size", follows=Times(1, "hidden_size"), small=23),
    },
    branches=({}, {"hidden_act": "relu"}),
    classes=("SiglipTextModel",),
)


SIGLIP_VISION = replace(
    CLIP_VISION,
    model_type="siglip_vision_model",
    modules={
        "embeddings.patch_embedding": convolution(None, RESIDUAL, kernel=2),
        "embeddings.position_embedding": embedding(RESIDUAL),
        **LAYERS,
        "post_layernorm": norm(RESIDUAL, FINAL),
        "head": {
            "probe": (Keeps(), Keeps(), Writes(FINAL))
        },  # the fused projection below reads both the probe and the patches
        "head.attention": {"in_proj_weight": (Writes(_FUSED), Reads(FINAL)), "in_proj_bias": (Writes(_FUSED),)},
        "head.attention.out_proj": linear(ATTENDED, POOLED),
        "head.layernorm": norm(POOLED, PROBED),
        **{
            f"head.mlp.{name}": rule
            for name, rule in feed_forward(("fc1",), "fc2", reads=PROBED, writes=POOLED).items()
        },
    },
    laws={**LAWS, POOLED: LayerNorm(), PROBED: Linear(POOLED), EMBEDS: UnitLength(POOLED)},
    outputs={
        "hidden_states": RESIDUAL,
        "hidden_states.last": RESIDUAL,
        "last_hidden_state": FINAL,
        "pooler_output": POOLED,
    },
    vouched={**CLIP_VISION.vouched, "vision_use_head": None},
    branches=({}, {"vision_use_head": False, "hidden_act": "relu"}),
    classes=(),
)


_TEXT, _VISION = tower(SIGLIP_TEXT, "text_config", "text_model"), tower(SIGLIP_VISION, "vision_config", "vision_model")


_PROJECTED = "text_config.projection_size"  # as wide as the output of the image's head


SEEN, COMPARED = within(VISION, RESIDUAL), within(VISION, EMBEDS)


SIGLIP = Architecture(
    model_type="siglip",
    modules={
        **_TEXT.modules,
        **_VISION.modules,
        "text_model.head": within(TEXT, linear(FINAL, within(VISION, POOLED)), {within(VISION, POOLED)}),
        "": {"logit_scale": (Keeps(),), "logit_bias": (Keeps(),)},
        "classifier": within(VISION, linear(FINAL)),
    },
    laws={**_TEXT.laws, **_VISION.laws},
    outputs={"text_embeds": COMPARED, "image_embeds": COMPARED},
    epsilon=SIGLIP_TEXT.epsilon,
    prefixes=("siglip",),
    sizes={
        **{name: size for name, size in _TEXT.sizes.items() if name != _PROJECTED},
        **_VISION.sizes,
        _PROJECTED: Size(_PROJECTED, "follows", follows=Times(1, "vision_config.hidden_size"), small=20),
    },
    constants={**_TEXT.constants, **_VISION.constants},
    vouched={**_TEXT.vouched, **_VISION.vouched, "initializer_factor": None},
    variants={"SiglipForImageClassification": Variant(outputs={"hidden_states": SEEN, "hidden_states.last": SEEN})},
    buffers=(*_TEXT.buffers, *_VISION.buffers),
    twin=TwinFields({"text_config.projection_size": 20}),
    arithmetic={},
    branches=({}, {"text_config": {"projection_size": 768, "hidden_size": 1152, "num_attention_heads": 16}}),
)
