"""DINOv2: ViT with a learned factor per coordinate on the output of each sub-layer (LayerScale),
and SwiGLU in the largest model.

The config states only the ratio of the hidden layer to hidden_size. SwiGLU takes two thirds of
that, rounded up to a multiple of 8.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from growth.architectures import (
    BRANCH,
    FFN,
    FINAL,
    NORMED,
    RESIDUAL,
    Architecture,
    Keeps,
    Linear,
    Rule,
    Scale,
    Size,
    Sizes,
    Writes,
    attention,
    feed_forward,
    linear,
    norm,
    standard_sizes,
    under,
)
from growth.architectures.families.vit import LAWS, TOKENS, VIT


def _hidden_layer(config: Any, sizes: Sizes) -> int:
    hidden = int(sizes["hidden_size"] * config.mlp_ratio)
    return (int(hidden * 2 / 3) + 7) // 8 * 8 if config.use_swiglu_ffn else hidden


def _feature_maps(architecture: Architecture, config: Any) -> Architecture:
    """The space of a backbone's feature maps, which the config norms or not."""
    return replace(
        architecture, outputs={**architecture.outputs, "feature_maps": FINAL if config.apply_layernorm else RESIDUAL}
    )


_ATTENTION = attention(
    "attention.query", "attention.key", "attention.value", "output.dense", reads=NORMED, writes=BRANCH
)


_LAYER: dict[str, Rule] = {
    **under("attention", _ATTENTION),
    **under("mlp", feed_forward(("fc1",), "fc2", reads=NORMED, writes=BRANCH)),
    "mlp.weights_in": linear(NORMED, FFN + FFN),
    "mlp.weights_out": linear(FFN, BRANCH),
    "layer_scale1": {"lambda1": (Scale(BRANCH, RESIDUAL),)},
    "layer_scale2": {"lambda1": (Scale(BRANCH, RESIDUAL),)},
    "norm1": norm(RESIDUAL, NORMED),
    "norm2": norm(RESIDUAL, NORMED),
}


DINOV2 = replace(
    VIT,
    model_type="dinov2",
    modules={
        **TOKENS,
        "embeddings": {**TOKENS["embeddings"], "mask_token": (Keeps(), Writes(RESIDUAL))},
        **under("encoder.layer.*", _LAYER),
        "layernorm": norm(RESIDUAL, FINAL),
        "classifier": linear(FINAL + FINAL),
    },
    laws={**LAWS, BRANCH: Linear()},
    outputs={**VIT.outputs, "pooler_output": FINAL},
    prefixes=("dinov2",),
    sizes={**standard_sizes(), "intermediate_size": Size(follows=_hidden_layer)},
    for_config=_feature_maps,
    vouched={
        **VIT.vouched,
        **dict.fromkeys(("mlp_ratio", "use_swiglu_ffn", "layerscale_value", "drop_path_rate", "use_mask_token")),
        **dict.fromkeys(("out_features", "out_indices", "stage_names", "apply_layernorm", "reshape_hidden_states")),
    },
    twin=lambda config, layers: {
        "stage_names": ["stem", *(f"stage{i + 1}" for i in range(layers))],
        "out_features": [f"stage{layers - 1}", f"stage{layers}"],
        "out_indices": [layers - 1, layers],
    },
    branches=(
        {},
        {"use_swiglu_ffn": True, "mlp_ratio": 5, "apply_layernorm": False, "qkv_bias": False},
        {"use_mask_token": False, "reshape_hidden_states": False, "mlp_ratio": 3},
    ),
)
