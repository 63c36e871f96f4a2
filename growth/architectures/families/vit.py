"""ViT: pre-norm LayerNorm over embedded patches and a class token, learned positions. Linear heads
and a pooler read the output of the final norm."""

from __future__ import annotations

from growth.architectures import (
    FFN_LAWS,
    FINAL,
    NORMED,
    RESIDUAL,
    Architecture,
    Copied,
    Keeps,
    Law,
    LayerNorm,
    Linear,
    Rule,
    Size,
    Space,
    Times,
    Writes,
    attention,
    attention_laws,
    attention_scale,
    convolution,
    feed_forward,
    linear,
    norm,
    standard_sizes,
    under,
)

POOLED = Space("pooled", "pooler_output_size")


ATTENTION = attention(
    "attention.query", "attention.key", "attention.value", "output.dense", reads=NORMED, writes=RESIDUAL
)


TOKENS: dict[str, Rule] = {
    "embeddings": {
        "cls_token": (Keeps(), Keeps(), Writes(RESIDUAL)),
        "mask_token": (Keeps(), Keeps(), Writes(RESIDUAL)),
        "position_embeddings": (Keeps(), Keeps(), Writes(RESIDUAL)),
    },
    "embeddings.patch_embeddings.projection": convolution(None, RESIDUAL, kernel=2),
}


LAWS: dict[Space, Law] = {
    RESIDUAL: LayerNorm(),
    NORMED: Linear(RESIDUAL),
    FINAL: Linear(RESIDUAL),
    **FFN_LAWS,
    **attention_laws(),
}


VIT = Architecture(
    model_type="vit",
    modules={
        **TOKENS,
        **under("encoder.layer.*.attention", ATTENTION),
        **{
            f"encoder.layer.*.{name}": rule
            for name, rule in feed_forward(
                ("intermediate.dense",), "output.dense", reads=NORMED, writes=RESIDUAL
            ).items()
        },
        "encoder.layer.*.layernorm_before": norm(RESIDUAL, NORMED),
        "encoder.layer.*.layernorm_after": norm(RESIDUAL, NORMED),
        "layernorm": norm(RESIDUAL, FINAL),
        "pooler.dense": linear(FINAL, POOLED),
        "classifier": linear(FINAL),
        "decoder.0": convolution(FINAL, kernel=2),
    },
    laws={**LAWS, POOLED: Copied("the pooler's activation")},
    outputs={
        "hidden_states": RESIDUAL,
        "hidden_states.last": RESIDUAL,
        "last_hidden_state": FINAL,
        "pooler_output": POOLED,
    },
    epsilon="layer_norm_eps",
    prefixes=("vit",),
    sizes={
        **standard_sizes(),
        "pooler_output_size": Size("pooler_output_size", follows=Times(1, "hidden_size"), small=23),
    },
    constants={"attention_scale": attention_scale},
    vouched={
        **dict.fromkeys(
            ("hidden_act", "pooler_act", "qkv_bias", "hidden_dropout_prob", "attention_probs_dropout_prob")
        ),
        **dict.fromkeys(("image_size", "patch_size", "num_channels", "encoder_stride", "initializer_range")),
    },
    optional=("pooler.dense.weight", "pooler.dense.bias"),
    branches=({}, {"qkv_bias": False, "pooler_act": "relu", "hidden_act": "relu", "num_channels": 1}),
)
