"""Llama and the families that share its block: pre-norm RMSNorm, rotary attention with grouped
keys and values, gated feed-forward.

Mistral adds a sliding window, and Qwen2 adds biases on q, k and v. Neither depends on the width.
"""

from __future__ import annotations

from dataclasses import replace

from growth.architectures import (
    FFN_LAWS,
    FINAL,
    NORMED,
    RESIDUAL,
    ROTARY_SCALING,
    Architecture,
    Dual,
    Linear,
    RMSNorm,
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


_FEED_FORWARD = feed_forward(("gate_proj", "up_proj"), "down_proj", reads=NORMED, writes=RESIDUAL)


LLAMA = Architecture(
    model_type="llama",
    modules={
        "embed_tokens": embedding(RESIDUAL),
        "layers.*.input_layernorm": norm(RESIDUAL, NORMED),
        **under("layers.*.self_attn", _ATTENTION),
        "layers.*.post_attention_layernorm": norm(RESIDUAL, NORMED),
        **under("layers.*.mlp", _FEED_FORWARD),
        "norm": norm(RESIDUAL, FINAL),
        "lm_head": linear(FINAL),
        "score": linear(FINAL),
        "qa_outputs": linear(FINAL),
    },
    laws={RESIDUAL: RMSNorm(), NORMED: Linear(), FINAL: Dual(RESIDUAL), **FFN_LAWS, **attention_laws(rotary="half")},
    outputs={"hidden_states": RESIDUAL, "last_hidden_state": FINAL},
    epsilon="rms_norm_eps",
    prefixes=("model", "transformer"),
    constants={"attention_scale": attention_scale},
    positions="rotary",
    refuses=(ROTARY_SCALING,),
    vouched={
        "hidden_act": None,
        "attention_bias": None,
        "mlp_bias": None,
        "attention_dropout": None,
        "initializer_range": None,
        "rope_interleaved": (False,),
        "is_llama_config": None,
        # From earlier versions; the class reads neither.
        **dict.fromkeys(("pretraining_tp", "max_sequence_length")),
    },
    old_classes={"LLaMAForCausalLM": "LlamaForCausalLM"},
    buffers=("layers.*.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq"),
    branches=(
        {},
        {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 8, "hidden_act": "gelu"},
        {"num_key_value_heads": 1, "tie_word_embeddings": True},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5}},
    ),
)


MISTRAL = replace(
    LLAMA,
    model_type="mistral",
    vouched={"hidden_act": None, "attention_dropout": None, "initializer_range": None, "sliding_window": None},
    branches=({}, {"sliding_window": None, "num_key_value_heads": 1, "tie_word_embeddings": True}),
)


QWEN2 = replace(
    MISTRAL,
    model_type="qwen2",
    vouched={
        **MISTRAL.vouched,
        "use_sliding_window": None,
        "max_window_layers": None,
        "layer_types": None,
        "use_mrope": (False,),
    },
    branches=(
        {},
        {"num_key_value_heads": 8, "tie_word_embeddings": True},
        {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
)
