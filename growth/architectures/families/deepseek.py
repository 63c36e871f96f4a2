"""DeepSeek-V2 and V3: attention through latents, and experts of which some are shared.

Keys and values of head h are read from one narrow latent, ``[k_h; v_h] = B_h rms(A x)``. Queries
are read in the same way, or directly from x. All heads share a rotary key k', which adds to the
score of each head: ``(q_h . k_h + turn(q'_h) . turn(k')) / sqrt(width of both)``.

Where wider heads cannot keep the rotary frequencies (`growth.rules.rotary`), only the part of a
head without rotary positions grows.

A checkpoint of V3 may hold layers after the last one, which predict further tokens from ``E
[rms(embedding); rms(final)]``. Their norms use the epsilon of the family, so there ``final`` keeps
the energy of the residual stream; an untied head allows that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from growth.architectures import (
    EXPERT_LAWS,
    FFN,
    FINAL,
    HEAD_BY_HEAD,
    KEY_PASS,
    KEY_ROTARY,
    NORMED,
    QUERY_PASS,
    QUERY_ROTARY,
    RESIDUAL,
    SHARED,
    Architecture,
    Growth,
    IllegalShapeError,
    Isometric,
    Keeps,
    Linear,
    Map,
    Refusal,
    RMSNorm,
    Scores,
    Size,
    Sizes,
    Space,
    Times,
    UnsupportedModelError,
    embedding,
    experts,
    feed_forward,
    keeps_frequencies,
    linear,
    norm,
    under,
)
from growth.architectures.families.llama import LLAMA

HEADS, VALUE = Space("heads", "num_attention_heads"), Space("value", "v_head_dim")


RAW_QUERIES, QUERIES = Space("raw query latent", "q_lora_rank"), Space("query latent", "q_lora_rank")


RAW_LATENT, LATENT = Space("raw latent", "kv_lora_rank"), Space("latent", "kv_lora_rank")


_QUERY = HEADS * (QUERY_PASS + QUERY_ROTARY)


_FIRST, _SECOND = ("gate_proj", "up_proj"), "down_proj"


_SHARED = feed_forward(_FIRST, _SECOND, reads=NORMED, writes=RESIDUAL, hidden=SHARED)


_LATENT_LAW = Isometric()


_LATENT_EPSILON = 1e-6


_YARN = {
    "rope_type": "yarn",
    "factor": 40.0,
    "mscale": 0.7,
    "mscale_all_dim": 0.9,
    "original_max_position_embeddings": 64,
}


def _require_even(g: Growth) -> None:
    """DeepSeek-V2's class views some activations as complex numbers, so their sizes must be
    even."""
    if g.m % 2:
        what = f"cannot grow '{g.space}' ({g.space.size}) from {g.n} to {g.m}"
        raise IllegalShapeError(f"{what}: the class needs an even number. Use {g.m + 1}.", {g.space.size})


@dataclass(frozen=True)
class _EvenLatent(Isometric):
    def grow(self, g: Growth) -> Map:
        _require_even(g)
        return super().grow(g)


@dataclass(frozen=True)
class _EvenScores(Scores):
    def grow(self, g: Growth) -> Map:
        _require_even(g)
        return super().grow(g)


def _both(config: Any, sizes: Sizes) -> int:
    return sizes["pass_dim"] + sizes["rotary_dim"]


def _twin(config: Any, layers: int) -> Mapping[str, Any]:
    """One layer with experts and, where the config has any, one without."""
    groups = {"n_group": min(config.n_group, 3), "topk_group": min(config.topk_group, 2)} if config.n_group else {}
    return {"first_k_dense_replace": min(config.first_k_dense_replace, 1), "n_routed_experts": 6, **groups}


def _for_config(architecture: Architecture, config: Any) -> Architecture:
    if config.num_key_value_heads != config.num_attention_heads:
        raise UnsupportedModelError(
            f"the {config.model_type} config has {config.num_attention_heads} heads and {config.num_key_value_heads} "
            "key/value heads, but each head has its own key in the latent. Check config.json."
        )
    rotary = "interleaved" if getattr(config, "rope_interleave", True) else "half"
    laws = {**architecture.laws, QUERY_ROTARY: Scores("query", rotary), KEY_ROTARY: Scores("key", rotary)}  # type: ignore[arg-type]
    drafts = getattr(config, "num_mtp_layers", 0) and not config.tie_word_embeddings
    turns = replace(
        architecture.sizes["rotary_dim"], grows="head-dim" if keeps_frequencies(config.rope_parameters) else "never"
    )
    sizes = {**architecture.sizes, "rotary_dim": turns}
    if config.q_lora_rank is None:  # queries are read straight from the stream
        sizes["q_lora_rank"] = Size("q_lora_rank", "follows", follows=Times(1, "hidden_size"))
    return replace(architecture, laws={**laws, FINAL: RMSNorm()} if drafts else laws, sizes=sizes)


DEEPSEEK_V3 = replace(
    LLAMA,
    model_type="deepseek_v3",
    modules={
        **{name: rule for name, rule in LLAMA.modules.items() if ".self_attn." not in name},
        "layers.*.self_attn.q_proj": linear(NORMED, _QUERY),
        "layers.*.self_attn.q_a_proj": linear(NORMED, RAW_QUERIES),
        "layers.*.self_attn.q_a_layernorm": norm(RAW_QUERIES, QUERIES, epsilon=_LATENT_EPSILON),
        "layers.*.self_attn.q_b_proj": linear(QUERIES, _QUERY),
        "layers.*.self_attn.kv_a_proj_with_mqa": linear(NORMED, RAW_LATENT + KEY_ROTARY),
        "layers.*.self_attn.kv_a_layernorm": norm(RAW_LATENT, LATENT, epsilon=_LATENT_EPSILON),
        "layers.*.self_attn.kv_b_proj": linear(LATENT, HEADS * (KEY_PASS + VALUE)),
        "layers.*.self_attn.o_proj": linear(HEADS * VALUE, RESIDUAL),
        "layers.*.mlp.gate": {**linear(NORMED), "e_score_correction_bias": (Keeps(),)},
        **experts("layers.*.mlp.experts", _FIRST, _SECOND, reads=NORMED, writes=RESIDUAL),
        **under("layers.*.mlp.shared_experts", _SHARED),
        "layers.*.embed_tokens": embedding(RESIDUAL),
        "layers.*.enorm": norm(RESIDUAL, NORMED),
        "layers.*.hnorm": norm(FINAL, NORMED),
        "layers.*.eh_proj": linear(NORMED + NORMED, RESIDUAL),
        "layers.*.shared_head.norm": norm(RESIDUAL, FINAL),
        "layers.*.shared_head.head": linear(FINAL),
    },
    laws={
        **{space: LLAMA.laws[space] for space in (RESIDUAL, NORMED, FINAL, FFN)},
        **EXPERT_LAWS,
        **{RAW_QUERIES: _LATENT_LAW, QUERIES: Linear(), RAW_LATENT: _LATENT_LAW, LATENT: Linear()},
        **{HEADS: HEAD_BY_HEAD, VALUE: Linear(), QUERY_PASS: Scores("query"), KEY_PASS: Scores("key")},
        **{QUERY_ROTARY: Scores("query", "interleaved"), KEY_ROTARY: Scores("key", "interleaved")},
    },
    sizes={
        "hidden_size": Size("hidden_size", small=33),
        "intermediate_size": Size("intermediate_size", small=29),
        "moe_intermediate_size": Size("moe_intermediate_size", small=23),
        "shared_expert_intermediate_size": Size(follows=Times("n_shared_experts", "moe_intermediate_size")),
        "num_attention_heads": Size("num_attention_heads", "heads", small=3),
        "num_key_value_heads": Size(
            "num_key_value_heads", "follows", follows=Times(1, "num_attention_heads"), small=3
        ),
        "q_lora_rank": Size("q_lora_rank", follows=Times(1, "hidden_size"), small=19),
        "kv_lora_rank": Size("kv_lora_rank", small=14),  # even: the class views what follows it as complex numbers
        "pass_dim": Size("qk_nope_head_dim", "head-dim", small=6),
        "rotary_dim": Size("qk_rope_head_dim", "head-dim", small=4),
        "v_head_dim": Size("v_head_dim", "head-dim", small=7),
        "qk_head_dim": Size("qk_head_dim", "follows", follows=_both, small=10),
        "head_dim": Size("head_dim", "follows", follows=Times(1, "rotary_dim"), small=4),
    },
    for_config=_for_config,
    constants={"attention_scale": lambda config, sizes: _both(config, sizes) ** -0.5},
    positions="rotary in part",
    refuses=(
        Refusal(
            "qk_rope_head_dim under dynamic rotary scaling, or yarn unless `truncate` is false",
            "the frequencies depend on it",
            lambda asked: "rotary_dim" in asked.grown and not keeps_frequencies(asked.config.rope_parameters),
        ),
    ),
    vouched={
        **dict.fromkeys(
            (
                "hidden_act",
                "attention_bias",
                "attention_dropout",
                "initializer_range",
                "rope_interleave",
                "pretraining_tp",
            )
        ),
        **dict.fromkeys(
            (
                "n_routed_experts",
                "n_shared_experts",
                "num_experts_per_tok",
                "n_group",
                "topk_group",
                "first_k_dense_replace",
            )
        ),
        **dict.fromkeys(
            ("norm_topk_prob", "routed_scaling_factor", "output_router_logits", "num_nextn_predict_layers")
        ),
        # From the code it was trained with; the class reads none of them.
        **{"scoring_func": ("sigmoid",), "topk_method": ("noaux_tc",), "moe_layer_freq": (1,)},
        **dict.fromkeys(("ep_size", "aux_loss_alpha", "seq_aux")),
    },
    twin=_twin,
    branches=(
        {},
        {"rope_parameters": _YARN},
        {"rope_parameters": {**_YARN, "truncate": False, "rope_theta": 500.0}, "tie_word_embeddings": True},
        {"q_lora_rank": None, "rope_interleave": False, "first_k_dense_replace": 0, "tie_word_embeddings": True},
        {
            "n_group": 1,
            "topk_group": 1,
            "n_shared_experts": 2,
            "norm_topk_prob": False,
            "num_mtp_layers": 0,
            "attention_bias": True,
        },
    ),
)


DEEPSEEK_V2 = replace(
    DEEPSEEK_V3,
    model_type="deepseek_v2",
    laws={
        **DEEPSEEK_V3.laws,
        RAW_LATENT: _EvenLatent(),
        QUERY_PASS: _EvenScores("query"),
        KEY_PASS: _EvenScores("key"),
    },
    vouched={
        **DEEPSEEK_V3.vouched,
        "mlp_bias": None,
        "topk_method": ("greedy", "group_limited_greedy"),
        "scoring_func": ("softmax",),
    },
    branches=(
        {"num_experts_per_tok": 6, "first_k_dense_replace": 1, "mlp_bias": True},
        {
            "num_experts_per_tok": 6,
            "q_lora_rank": None,
            "attention_bias": True,
            "n_shared_experts": 3,
            "tie_word_embeddings": True,
        },
        {
            "num_experts_per_tok": 6,
            "topk_method": "group_limited_greedy",
            "n_group": 8,
            "topk_group": 3,
            "routed_scaling_factor": 16.0,
        },
        {"num_experts_per_tok": 6, "rope_parameters": _YARN},
    ),
)
