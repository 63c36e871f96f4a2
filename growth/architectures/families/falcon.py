"""Falcon: pre-norm LayerNorm, rotary positions or ALiBi, attention and feed-forward in parallel or
in turn, with one norm or two.

Each group of the fused projection holds its queries, then its key and value: ``kv_heads *
(queries_per_kv * query + key + value)``. With one group this is multi-query attention, with as many
groups as heads it is plain attention. ALiBi is added to the scores before they are scaled, so the
slopes depend on head_dim too. Where heads share their values, a new head cannot have silent ones,
so with ALiBi such heads do not grow in number.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from growth.architectures import (
    ALIBI_ATTENDED,
    ALIBI_QKV,
    ATTENDED,
    FFN_LAWS,
    FINAL,
    KEY,
    KV_HEADS,
    NORMED,
    QUERIES_PER_KV,
    QUERY,
    RESIDUAL,
    ROTARY_SCALING,
    VALUE,
    Architecture,
    Dual,
    FixedSize,
    LayerNorm,
    Linear,
    Refusal,
    Size,
    Times,
    alibi_laws,
    attention_laws,
    attention_scale,
    embedding,
    feed_forward,
    linear,
    norm,
    standard_sizes,
)

_SIZES = standard_sizes("hidden_size", "ffn_hidden_size", kv_heads="num_kv_heads", head_dim="", intermediate_ratio=4)


_SLOPES = "ALiBi slopes are divided by sqrt(head_dim) here"
_FEED_FORWARD = "Name intermediate_size alone: the feed-forward layers of such a model can grow."
"""Where heads can grow neither in number nor in width."""

_WIDER = FixedSize(_SLOPES, "Use --attention heads.")


_MORE = FixedSize(
    "a new head between two ALiBi slopes shares its values with old heads, so it cannot be silent", _FEED_FORWARD
)


def _shares_values(config: Any) -> bool:
    return bool(config.new_decoder_architecture or config.multi_query)


def _for_config(architecture: Architecture, config: Any) -> Architecture:
    shared = _shares_values(config)
    if config.multi_query and not config.new_decoder_architecture:
        architecture = replace(
            architecture, sizes={**architecture.sizes, "num_key_value_heads": Size(follows=Times(1))}
        )
    elif not shared:
        kv_heads = replace(architecture.sizes["num_key_value_heads"], grows="follows")
        architecture = replace(architecture, sizes={**architecture.sizes, "num_key_value_heads": kv_heads})
    if not config.alibi:
        return architecture
    laws = {**architecture.laws, **alibi_laws(), QUERY: _WIDER, KEY: _WIDER, VALUE: _WIDER}
    if shared:
        wider = FixedSize(_SLOPES, _FEED_FORWARD)
        laws |= {KV_HEADS: _MORE, QUERIES_PER_KV: _MORE, QUERY: wider, KEY: wider, VALUE: wider}
        return replace(architecture, laws=laws)
    modules = {
        **architecture.modules,
        "h.*.self_attention.query_key_value": linear(NORMED, ALIBI_QKV),
        "h.*.self_attention.dense": linear(ALIBI_ATTENDED, RESIDUAL),
    }
    return replace(architecture, laws=laws, modules=modules)


FALCON = Architecture(
    model_type="falcon",
    modules={
        "word_embeddings": embedding(RESIDUAL),
        "h.*.input_layernorm": norm(RESIDUAL, NORMED),
        "h.*.ln_attn": norm(RESIDUAL, NORMED),
        "h.*.ln_mlp": norm(RESIDUAL, NORMED),
        "h.*.self_attention.query_key_value": linear(NORMED, KV_HEADS * (QUERIES_PER_KV * QUERY + KEY + VALUE)),
        "h.*.self_attention.dense": linear(ATTENDED, RESIDUAL),
        "h.*.post_attention_layernorm": norm(RESIDUAL, NORMED),
        **feed_forward(("h.*.mlp.dense_h_to_4h",), "h.*.mlp.dense_4h_to_h", reads=NORMED, writes=RESIDUAL),
        "ln_f": norm(RESIDUAL, FINAL),
        "lm_head": linear(FINAL),
        "score": linear(FINAL),
        "classifier": linear(FINAL),
        "qa_outputs": linear(FINAL),
    },
    laws={
        RESIDUAL: LayerNorm(),
        NORMED: Linear(RESIDUAL),
        FINAL: Dual(RESIDUAL),
        **FFN_LAWS,
        **attention_laws(rotary="half"),
    },
    outputs={"hidden_states": RESIDUAL, "last_hidden_state": FINAL},
    epsilon="layer_norm_epsilon",
    prefixes=("transformer",),
    old_classes={"RWForCausalLM": "FalconForCausalLM", "RWModel": "FalconModel"},
    sizes={**_SIZES, "hidden_size": replace(_SIZES["hidden_size"], old_names=("n_embed",))},
    for_config=_for_config,
    constants={"attention_scale": attention_scale},
    positions="rotary or ALiBi",
    refuses=(
        Refusal(
            "head-dim with ALiBi",
            "slopes are divided by sqrt(head_dim)",
            lambda asked: asked.config.alibi and asked.wider_heads,
        ),
        Refusal(
            "heads with ALiBi where heads share values",
            "a head between two slopes cannot be silent",
            lambda asked: asked.config.alibi and _shares_values(asked.config) and not asked.wider_heads,
        ),
        ROTARY_SCALING,
    ),
    vouched={
        **dict.fromkeys(
            (
                "alibi",
                "new_decoder_architecture",
                "multi_query",
                "parallel_attn",
                "num_ln_in_parallel_attn",
                "num_kv_heads",
            )
        ),
        **dict.fromkeys(("bias", "activation")),
        # From the implementation it was trained with; the class reads neither.
        "apply_residual_connection_post_layernorm": (False,),
        **dict.fromkeys(("ff_factor", "ffn_factor")),
    },
    buffers=("h.*.self_attention.rotary_emb.inv_freq", "h.*.self_attention.maybe_rotary.inv_freq"),
    branches=(
        {},
        {"multi_query": False, "bias": True, "parallel_attn": False},
        {
            "new_decoder_architecture": True,
            "num_attention_heads": 8,
            "num_kv_heads": 2,
            "hidden_size": 64,
            "tie_word_embeddings": False,
        },
        {
            "new_decoder_architecture": True,
            "num_attention_heads": 8,
            "num_kv_heads": 2,
            "hidden_size": 64,
            "num_ln_in_parallel_attn": 1,
        },
        {"alibi": True, "multi_query": False, "bias": True, "parallel_attn": False, "activation": "relu"},
        {"alibi": True},
        {
            "alibi": True,
            "new_decoder_architecture": True,
            "num_attention_heads": 8,
            "num_kv_heads": 2,
            "hidden_size": 64,
        },
    ),
)
