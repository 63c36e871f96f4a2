"""ESM: a pre-norm LayerNorm encoder with learned or rotary positions, and BERT's
masked-language-model transform after a final norm.

Rotary frequencies are a buffer that checkpoints hold and models load, so they grow with head_dim.
The contact head is a regression on the attention maps of all heads of all layers; it reads copied
heads as any reader reads copies.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from growth.architectures import (
    FFN_LAWS,
    FINAL,
    FIXED_FREQUENCIES,
    HEAD_LAWS,
    HEADS,
    MASKED_HEADS,
    NORMED,
    POOLED,
    RESIDUAL,
    TRANSFORM,
    Architecture,
    Dual,
    Fixed,
    Frequencies,
    Keeps,
    LayerNorm,
    Linear,
    Reads,
    Refusal,
    Rule,
    UnsupportedModelError,
    Writes,
    attention,
    attention_laws,
    attention_scale,
    embedding,
    feed_forward,
    linear,
    norm,
    shared_epsilon,
    standard_sizes,
    under,
)
from growth.architectures.families.roformer import FREQUENCIES, ROTARY_PAIRS

_ATTENTION = attention("self.query", "self.key", "self.value", "output.dense", reads=NORMED, writes=RESIDUAL)


_FEED_FORWARD = feed_forward(("intermediate.dense",), "output.dense", reads=NORMED, writes=RESIDUAL)


_PROTEINS = {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32}


_FREQUENCIES: Rule = {"inv_freq": (Writes(FREQUENCIES),)}


def _for_config(architecture: Architecture, config: Any) -> Architecture:
    if config.is_folding_model:
        raise UnsupportedModelError(
            "this config is ESMFold's, whose folding trunk is not declared. Widen the language model alone "
            "(EsmForMaskedLM)."
        )
    maps = Fixed(config.num_hidden_layers) * HEADS
    contacts: Rule = {"weight": (Keeps(), Reads(maps)), "bias": (Keeps(),)}
    architecture = replace(architecture, modules={**architecture.modules, "contact_head.regression": contacts})
    if config.position_embedding_type == "rotary":
        return architecture
    return replace(architecture, laws={**architecture.laws, FREQUENCIES: Linear(), **attention_laws()})


ESM = Architecture(
    model_type="esm",
    modules={
        "embeddings.word_embeddings": embedding(RESIDUAL),
        "embeddings.position_embeddings": embedding(RESIDUAL),
        "embeddings.layer_norm": norm(RESIDUAL, RESIDUAL),
        "rotary_embeddings": _FREQUENCIES,
        "encoder.layer.*.attention.self.rotary_embeddings": _FREQUENCIES,
        **under("encoder.layer.*.attention", _ATTENTION),
        "encoder.layer.*.attention.LayerNorm": norm(RESIDUAL, NORMED),
        **under("encoder.layer.*", _FEED_FORWARD),
        "encoder.layer.*.LayerNorm": norm(RESIDUAL, NORMED),
        "encoder.emb_layer_norm_after": norm(RESIDUAL, NORMED),
        "pooler.dense": linear(NORMED, POOLED),
        "lm_head.dense": linear(NORMED, TRANSFORM),
        "lm_head.layer_norm": norm(TRANSFORM, FINAL),
        "lm_head": {"bias": (Keeps(),)},
        "lm_head.decoder": linear(FINAL),
        "classifier.dense": linear(NORMED, POOLED),
        "classifier.out_proj": linear(POOLED),
        "classifier": linear(NORMED),
    },
    laws={
        RESIDUAL: LayerNorm(),
        NORMED: Linear(RESIDUAL),
        FINAL: Dual(RESIDUAL),
        FREQUENCIES: Frequencies(),
        **HEAD_LAWS,
        **FFN_LAWS,
        **attention_laws(rotary="half"),
    },
    outputs={"hidden_states": RESIDUAL, "last_hidden_state": NORMED, "pooler_output": POOLED},
    epsilon="layer_norm_eps",
    prefixes=("esm",),
    sizes={**standard_sizes(), "rotary_pairs": ROTARY_PAIRS},
    for_config=_for_config,
    constants={"attention_scale": attention_scale},
    vouched={
        "hidden_act": None,  # the code fixes it
        "hidden_dropout_prob": None,
        "attention_probs_dropout_prob": None,
        "classifier_dropout": None,
        "initializer_range": None,
        "is_decoder": None,
        "position_embedding_type": ("absolute", "rotary"),
        "emb_layer_norm_before": None,
        "token_dropout": None,
    },
    positions="learned or rotary",
    refuses=(
        FIXED_FREQUENCIES.unless(
            "positions are learned", lambda asked: asked.config.position_embedding_type != "rotary"
        ),
        shared_epsilon("a masked-language-model head", MASKED_HEADS),
        Refusal("ESMFold", "its folding trunk is not declared", lambda asked: bool(asked.config.is_folding_model)),
    ),
    optional=(
        "pooler.dense.weight",
        "pooler.dense.bias",
        "rotary_embeddings.inv_freq",
        "encoder.layer.*.attention.self.rotary_embeddings.inv_freq",
    ),
    buffers=("embeddings.position_ids",),
    branches=(
        _PROTEINS,
        {**_PROTEINS, "emb_layer_norm_before": True, "is_decoder": True, "tie_word_embeddings": False},
        {**_PROTEINS, "position_embedding_type": "rotary", "token_dropout": True},
    ),
)
