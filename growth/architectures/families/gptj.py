"""GPT-J: pre-norm LayerNorm, attention and feed-forward in parallel on one norm, rotary pairs (2i,
2i+1) on a part of each head.

The code fixes the rotary frequencies at ``10000**(-2i/rotary_dim)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from growth.architectures import (
    FFN_LAWS,
    FINAL,
    FIXED_FREQUENCIES,
    NORMED,
    PARTIAL_KEY,
    PARTIAL_QUERY,
    RESIDUAL,
    Architecture,
    Dual,
    LayerNorm,
    Linear,
    Size,
    Sizes,
    TwinContext,
    UnsupportedModelError,
    attention,
    attention_laws,
    attention_scale,
    embedding,
    feed_forward,
    linear,
    norm,
    small_head_dim,
    standard_sizes,
    under,
)

_ATTENTION = attention(
    "q_proj", "k_proj", "v_proj", "out_proj", reads=NORMED, writes=RESIDUAL, query=PARTIAL_QUERY, key=PARTIAL_KEY
)


_FEED_FORWARD = feed_forward(("fc_in",), "fc_out", reads=NORMED, writes=RESIDUAL)


def _pass_dim(config: Any, sizes: Sizes) -> int:
    rotary, whole = sizes["rotary_dim"], sizes["head_dim"]
    if rotary > whole or rotary % 2:
        raise UnsupportedModelError(
            f"the {config.model_type} config has rotary_dim {rotary}, but heads are {whole} wide and turn by pairs of "
            "coordinates. "
            "Check config.json."
        )
    return whole - rotary


def _small_rotary(user: TwinContext) -> int:
    return small_head_dim(user) - (2 if user.sizes["rotary_dim"] < user.sizes["head_dim"] else 0)


SIZES: Mapping[str, Size] = {
    **standard_sizes("n_embd", "n_inner", "n_head", intermediate_ratio=4),
    "rotary_dim": Size("rotary_dim", "head-dim", small=_small_rotary),
    "pass_dim": Size(follows=_pass_dim),
}


GPTJ = Architecture(
    model_type="gptj",
    modules={
        "wte": embedding(RESIDUAL),
        "h.*.ln_1": norm(RESIDUAL, NORMED),
        **under("h.*.attn", _ATTENTION),
        **under("h.*.mlp", _FEED_FORWARD),
        "ln_f": norm(RESIDUAL, FINAL),
        "lm_head": linear(FINAL),
        "score": linear(FINAL),
        "qa_outputs": linear(FINAL),
    },
    laws={
        RESIDUAL: LayerNorm(),
        NORMED: Linear(RESIDUAL),
        FINAL: Dual(RESIDUAL),
        **FFN_LAWS,
        **attention_laws(rotary="interleaved", partial=True),
    },
    outputs={"hidden_states": RESIDUAL, "last_hidden_state": FINAL},
    epsilon="layer_norm_epsilon",
    prefixes=("transformer",),
    sizes=SIZES,
    constants={"attention_scale": attention_scale},
    positions="rotary in part",
    refuses=(FIXED_FREQUENCIES,),
    vouched={
        "activation_function": None,
        "resid_pdrop": None,
        "embd_pdrop": None,
        "attn_pdrop": None,
        "initializer_range": None,
        "rotary": (True,),
        "scale_attn_weights": (True,),
        # From another implementation; the class reads none of them.
        **dict.fromkeys(
            (
                "summary_activation",
                "summary_first_dropout",
                "summary_proj_to_labels",
                "summary_type",
                "summary_use_proj",
            )
        ),
    },
    buffers=("h.*.attn.bias", "h.*.attn.masked_bias"),
    branches=({}, {"rotary_dim": 256, "n_inner": 77}, {"tie_word_embeddings": True}),
)
