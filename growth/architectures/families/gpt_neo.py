"""GPT-Neo: pre-norm LayerNorm, learned positions, attention scores without a scale, and a local
window in every other layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from growth.architectures import (
    FFN_LAWS,
    FINAL,
    NORMED,
    RESIDUAL,
    Architecture,
    Dual,
    LayerNorm,
    Linear,
    attention,
    attention_laws,
    embedding,
    feed_forward,
    linear,
    no_scale,
    norm,
    standard_sizes,
    under,
)

_ATTENTION = attention("q_proj", "k_proj", "v_proj", "out_proj", reads=NORMED, writes=RESIDUAL)


_FEED_FORWARD = feed_forward(("c_fc",), "c_proj", reads=NORMED, writes=RESIDUAL)


def _few_layers(config: Any, layers: int) -> Mapping[str, Any]:
    """One layer of each kind; the window of a local one is shorter than the input."""
    kinds = (list(dict.fromkeys(config.attention_layers)) * layers)[:layers]
    return {"attention_types": [[kinds, 1]], "attention_layers": kinds, "window_size": min(config.window_size, 3)}


GPT_NEO = Architecture(
    model_type="gpt_neo",
    modules={
        "wte": embedding(RESIDUAL),
        "wpe": embedding(RESIDUAL),
        "h.*.ln_1": norm(RESIDUAL, NORMED),
        **under("h.*.attn.attention", _ATTENTION),
        "h.*.ln_2": norm(RESIDUAL, NORMED),
        **under("h.*.mlp", _FEED_FORWARD),
        "ln_f": norm(RESIDUAL, FINAL),
        "lm_head": linear(FINAL),
        "score": linear(FINAL),
        "classifier": linear(FINAL),
        "qa_outputs": linear(FINAL),
    },
    laws={RESIDUAL: LayerNorm(), NORMED: Linear(RESIDUAL), FINAL: Dual(RESIDUAL), **FFN_LAWS, **attention_laws()},
    outputs={"hidden_states": RESIDUAL, "last_hidden_state": FINAL},
    epsilon="layer_norm_epsilon",
    prefixes=("transformer",),
    sizes=standard_sizes(heads="num_heads", intermediate_ratio=4),
    constants={"attention_scale": no_scale},
    vouched={
        "activation_function": None,
        "attention_types": None,
        "attention_layers": None,
        "window_size": None,
        "resid_dropout": None,
        "embed_dropout": None,
        "attention_dropout": None,
        "classifier_dropout": None,
        "initializer_range": None,
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
    buffers=("h.*.attn.attention.bias", "h.*.attn.attention.masked_bias"),
    twin=_few_layers,
    branches=({}, {"attention_types": [[["global"], 24]], "intermediate_size": 77}, {"tie_word_embeddings": False}),
)
