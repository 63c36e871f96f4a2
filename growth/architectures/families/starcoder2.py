"""StarCoder2: pre-norm LayerNorm, rotary attention with grouped keys and values in a sliding
window, a feed-forward layer without a gate, biases."""

from __future__ import annotations

from growth.architectures import (
    FFN_LAWS,
    FINAL,
    NORMED,
    RESIDUAL,
    ROTARY_SCALING,
    Architecture,
    Dual,
    LayerNorm,
    Linear,
    attention,
    attention_laws,
    attention_scale,
    embedding,
    feed_forward,
    linear,
    norm,
    under,
)

_ATTENTION = attention("q_proj", "k_proj", "v_proj", "o_proj", reads=NORMED, writes=RESIDUAL)


STARCODER2 = Architecture(
    model_type="starcoder2",
    modules={
        "embed_tokens": embedding(RESIDUAL),
        "layers.*.input_layernorm": norm(RESIDUAL, NORMED),
        **under("layers.*.self_attn", _ATTENTION),
        "layers.*.post_attention_layernorm": norm(RESIDUAL, NORMED),
        **feed_forward(("layers.*.mlp.c_fc",), "layers.*.mlp.c_proj", reads=NORMED, writes=RESIDUAL),
        "norm": norm(RESIDUAL, FINAL),
        "lm_head": linear(FINAL),
        "score": linear(FINAL),
    },
    laws={
        RESIDUAL: LayerNorm(),
        NORMED: Linear(RESIDUAL),
        FINAL: Dual(RESIDUAL),
        **FFN_LAWS,
        **attention_laws(rotary="half"),
    },
    outputs={"hidden_states": RESIDUAL, "last_hidden_state": FINAL},
    epsilon="norm_epsilon",
    prefixes=("model",),
    constants={"attention_scale": attention_scale},
    positions="rotary",
    refuses=(ROTARY_SCALING,),
    vouched={
        **dict.fromkeys(("hidden_act", "use_bias", "sliding_window")),
        # From the implementation it was trained with; the class reads none of them.
        **dict.fromkeys(
            (
                "attention_softmax_in_fp32",
                "scale_attention_softmax_in_fp32",
                "layer_norm_epsilon",
                "activation_function",
            )
        ),
        "scale_attn_weights": (True,),
        "norm_type": ("layer_norm",),
        "mlp_type": ("default",),
    },
    branches=(
        {},
        {"use_bias": False, "tie_word_embeddings": False, "sliding_window": 4096},
        {"num_key_value_heads": 24, "rope_theta": 100000, "hidden_act": "gelu"},
    ),
)
