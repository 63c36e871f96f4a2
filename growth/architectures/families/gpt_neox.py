"""GPT-NeoX: pre-norm LayerNorm, rotary positions on a part of each head, ``[q; k; v]`` fused head
by head, feed-forward in parallel with attention or after it."""

from __future__ import annotations

from growth.architectures import (
    ATTENDED,
    FFN_LAWS,
    FINAL,
    HEADS,
    NORMED,
    PARTIAL_KEY,
    PARTIAL_QUERY,
    RESIDUAL,
    ROTARY_SCALING,
    VALUE,
    Architecture,
    Dual,
    LayerNorm,
    Linear,
    attention_laws,
    attention_scale,
    embedding,
    feed_forward,
    linear,
    norm,
    rotary_sizes,
    standard_sizes,
    under,
)

_FEED_FORWARD = feed_forward(("dense_h_to_4h",), "dense_4h_to_h", reads=NORMED, writes=RESIDUAL)


GPT_NEOX = Architecture(
    model_type="gpt_neox",
    modules={
        "embed_in": embedding(RESIDUAL),
        "layers.*.input_layernorm": norm(RESIDUAL, NORMED),
        "layers.*.attention.query_key_value": linear(NORMED, HEADS * (PARTIAL_QUERY + PARTIAL_KEY + VALUE)),
        "layers.*.attention.dense": linear(ATTENDED, RESIDUAL),
        "layers.*.post_attention_layernorm": norm(RESIDUAL, NORMED),
        **under("layers.*.mlp", _FEED_FORWARD),
        "final_layer_norm": norm(RESIDUAL, FINAL),
        "embed_out": linear(FINAL),
        "score": linear(FINAL),
        "classifier": linear(FINAL),
        "qa_outputs": linear(FINAL),
    },
    laws={
        RESIDUAL: LayerNorm(),
        NORMED: Linear(RESIDUAL),
        FINAL: Dual(RESIDUAL),
        **FFN_LAWS,
        **attention_laws(rotary="half", partial=True),
    },
    outputs={"hidden_states": RESIDUAL, "last_hidden_state": FINAL},
    epsilon="layer_norm_eps",
    prefixes=("gpt_neox",),
    sizes={**standard_sizes(), **rotary_sizes()},
    constants={"attention_scale": attention_scale},
    positions="rotary in part",
    refuses=(ROTARY_SCALING,),
    vouched={
        "hidden_act": None,
        "use_parallel_residual": None,
        "attention_bias": None,
        "rotary_pct": None,
        "rotary_emb_base": None,
        "is_decoder": None,
        "attention_dropout": None,
        "hidden_dropout": None,
        "classifier_dropout": None,
        "initializer_range": None,
        # From training and pipelines; the class reads none of them.
        **dict.fromkeys(("attention_probs_dropout_prob", "hidden_dropout_prob", "num_steps", "custom_pipelines")),
    },
    buffers=("layers.*.attention.bias", "layers.*.attention.masked_bias", "layers.*.attention.rotary_emb.inv_freq"),
    branches=(
        {},
        {"use_parallel_residual": False, "attention_bias": False, "tie_word_embeddings": True},
        {"rotary_pct": 1.0, "rotary_emb_base": 100},
    ),
)
