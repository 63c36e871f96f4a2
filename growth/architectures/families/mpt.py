"""MPT: pre-norm LayerNorm without biases, ALiBi, ``[q; k; v]`` fused. ``clip_qkv`` clamps queries,
keys and values coordinate by coordinate.

The class in transformers reads few of the other options MPT was trained with. It has no learned
positions, query and key norms, other expansion ratios or other slopes, so a config that asks for
one of them is refused.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from growth.architectures import (
    ALIBI_ATTENDED,
    ALIBI_HEADS,
    FFN_LAWS,
    FINAL,
    KEY,
    NORMED,
    QUERY,
    RESIDUAL,
    VALUE,
    Architecture,
    Copied,
    Dual,
    FixedSize,
    LayerNorm,
    Linear,
    Sizes,
    alibi_laws,
    clamped_attention,
    embedding,
    feed_forward,
    linear,
    norm,
    standard_sizes,
)


def _attention_scale(config: Any, sizes: Sizes) -> float:
    return float(sizes["head_dim"] ** -0.5) if config.attn_config.softmax_scale is None else 1.0


def _for_config(architecture: Architecture, config: Any) -> Architecture:
    if not config.attn_config.clip_qkv:
        return architecture
    fixed = FixedSize(
        "clip_qkv clamps queries and keys, so they cannot carry the factor that wider heads need",
        "Use --attention heads.",
    )
    return replace(architecture, laws={**architecture.laws, VALUE: Copied("clip_qkv"), QUERY: fixed, KEY: fixed})


MPT = Architecture(
    model_type="mpt",
    modules={
        "wte": embedding(RESIDUAL),
        "blocks.*.norm_1": norm(RESIDUAL, NORMED),
        "blocks.*.attn.Wqkv": linear(NORMED, ALIBI_HEADS * QUERY + ALIBI_HEADS * KEY + ALIBI_ATTENDED),
        "blocks.*.attn.out_proj": linear(ALIBI_ATTENDED, RESIDUAL),
        "blocks.*.norm_2": norm(RESIDUAL, NORMED),
        **feed_forward(("blocks.*.ffn.up_proj",), "blocks.*.ffn.down_proj", reads=NORMED, writes=RESIDUAL),
        "norm_f": norm(RESIDUAL, FINAL),
        "lm_head": linear(FINAL),
        "score": linear(FINAL),
        "classifier": linear(FINAL),
        "qa_outputs": linear(FINAL),
    },
    laws={RESIDUAL: LayerNorm(), NORMED: Linear(RESIDUAL), FINAL: Dual(RESIDUAL), **FFN_LAWS, **alibi_laws()},
    outputs={"hidden_states": RESIDUAL, "last_hidden_state": FINAL},
    epsilon="layer_norm_epsilon",
    prefixes=("transformer",),
    old_classes={"MPTForCausalLM": "MptForCausalLM", "MPTModel": "MptModel"},
    sizes=standard_sizes("d_model", "", "n_heads", "", "", intermediate_ratio=4),
    for_config=_for_config,
    constants={"attention_scale": _attention_scale},
    positions="ALiBi",
    refuses=(clamped_attention("attn_config.clip_qkv"),),
    twin=lambda config, layers: {"attn_config.clip_qkv": 0.5} if config.attn_config.clip_qkv else {},
    vouched={
        **dict.fromkeys(("attn_config.clip_qkv", "attn_config.softmax_scale", "attn_config.attn_impl")),
        "expansion_ratio": (4,),
        "no_bias": (True,),
        "logit_scale": (None,),
        "norm_type": ("low_precision_layernorm", "layernorm"),
        "learned_pos_emb": None,  # without effect under ALiBi
        **dict.fromkeys(("embedding_fraction", "max_seq_len", "tokenizer_name", "verbose")),
        "fc_type": ("torch",),
    },
    branches=(
        {},
        {"attn_config": {"clip_qkv": 6.0}, "tie_word_embeddings": False},
        {"attn_config": {"softmax_scale": 0.3}},
        {"attn_config": {"softmax_scale": 0.3, "clip_qkv": 6.0}},
    ),
)
