"""XLNet: post-norm LayerNorm. The scores are ``(q + u) . k + (q + v) . p + (q + w) . s``, with
keys k, projected relative sinusoids p and segments s.

Projections have three dimensions, ``[hidden, head, head_dim]``. There is no norm between the last
layer and the tied head: the last layer's norm leaves into what the head reads.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from growth.architectures import (
    FFN_LAWS,
    FINAL,
    HEAD_LAWS,
    HEADS,
    KEY,
    POOLED,
    QUERY,
    RESIDUAL,
    TRANSFORM,
    VALUE,
    Architecture,
    Dual,
    Keeps,
    LayerNorm,
    Picks,
    Reads,
    Rule,
    Sinusoids,
    Size,
    Space,
    Writes,
    attention_laws,
    attention_scale,
    embedding,
    feed_forward,
    linear,
    norm,
    shared_epsilon,
    standard_sizes,
)

SINUSOIDS = Space("sinusoids", "hidden_size")


_ATTENTION: Rule = {
    "q": (Reads(RESIDUAL), Writes(HEADS), Writes(QUERY)),
    "k": (Reads(RESIDUAL), Writes(HEADS), Writes(KEY)),
    "v": (Reads(RESIDUAL), Writes(HEADS), Writes(VALUE)),
    "o": (Writes(RESIDUAL), Reads(HEADS), Reads(VALUE)),
    "r": (Picks(SINUSOIDS), Writes(HEADS), Writes(KEY)),
    **{bias: (Writes(HEADS), Writes(QUERY)) for bias in ("r_w_bias", "r_r_bias", "r_s_bias")},
    "seg_embed": (Keeps(), Writes(HEADS), Writes(KEY)),
}


def _last_norm(architecture: Architecture, config: Any) -> Architecture:
    return replace(
        architecture,
        modules={**architecture.modules, f"layer.{config.n_layer - 1}.ff.layer_norm": norm(RESIDUAL, FINAL)},
    )


XLNET = Architecture(
    model_type="xlnet",
    modules={
        "word_embedding": embedding(RESIDUAL),
        "": {"mask_emb": (Keeps(), Keeps(), Writes(RESIDUAL))},
        "layer.*.rel_attn": _ATTENTION,
        "layer.*.rel_attn.layer_norm": norm(RESIDUAL, RESIDUAL),
        **feed_forward(("layer.*.ff.layer_1",), "layer.*.ff.layer_2", reads=RESIDUAL, writes=RESIDUAL),
        "layer.*.ff.layer_norm": norm(RESIDUAL, RESIDUAL),
        "lm_loss": linear(FINAL),
        "sequence_summary.summary": linear(FINAL, POOLED),
        "logits_proj": linear(POOLED),
        "classifier": linear(FINAL),
        "qa_outputs": linear(FINAL),
        "start_logits.dense": linear(FINAL),
        "end_logits.dense_0": linear(FINAL + FINAL, TRANSFORM),
        "end_logits.LayerNorm": norm(TRANSFORM, TRANSFORM),
        "end_logits.dense_1": linear(TRANSFORM),
        "answer_class.dense_0": linear(FINAL + FINAL, POOLED),
        "answer_class.dense_1": linear(POOLED),
    },
    laws={
        RESIDUAL: LayerNorm(),
        FINAL: Dual(RESIDUAL),
        SINUSOIDS: Sinusoids(),
        **HEAD_LAWS,
        **FFN_LAWS,
        **attention_laws(),
    },
    outputs={"hidden_states": RESIDUAL, "hidden_states.last": FINAL, "last_hidden_state": FINAL},
    epsilon="layer_norm_eps",
    prefixes=("transformer",),
    sizes={
        **standard_sizes("d_model", "d_inner", "n_head", head_dim="d_head"),
        "hidden_size": Size("d_model", small=18),  # heads * head_dim, though the config states head_dim
    },
    for_config=_last_norm,
    constants={"attention_scale": attention_scale},
    positions="relative sinusoids",
    refuses=(shared_epsilon("the question answering head that has a norm", ("ForQuestionAnswering",)),),
    vouched={
        "ff_activation": None,
        "attn_type": ("bi",),  # for a batch of two or more, the class fails at "uni": it adds a mask in place
        "mem_len": None,
        "reuse_len": None,
        "use_mems_eval": None,
        "use_mems_train": None,
        "bi_data": None,
        "clamp_len": None,
        "same_length": None,
        "dropout": None,
        "initializer_range": None,
        "summary_type": ("last", "first", "mean", "cls_index"),
        "summary_use_proj": (True,),
        "summary_proj_to_labels": (False,),
        "summary_activation": None,
        "summary_first_dropout": None,
        "summary_last_dropout": None,
        "start_n_top": None,
        "end_n_top": None,
        # From earlier releases; the class reads none of them.
        **dict.fromkeys(
            ("ff_activation_function", "init", "init_range", "init_std", "max_relative_positions", "untie_r")
        ),
    },
    branches=(
        {},
        {"ff_activation": "relu", "summary_type": "first", "summary_activation": "gelu", "clamp_len": 3},
        {
            "tie_word_embeddings": False,
            "bi_data": True,
            "mem_len": None,
            "summary_type": "mean",
            "summary_activation": "",
        },
    ),
)
