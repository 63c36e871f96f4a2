"""DeBERTa v2 and v3: DeBERTa with separate query, key and value projections, which may also
project the positions, and with an optional convolution.

The convolution reads the input of the first layer and is added, after an elementwise function, to
its output. The residual stream then passes through an elementwise function. In a grouped
convolution a channel must stay with its group, so the number of groups grows with the width.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from growth.architectures import (
    KEYS,
    QUERIES,
    RESIDUAL,
    Architecture,
    Keeps,
    LayerNorm,
    Size,
    Sizes,
    Variant,
    Writes,
    attention,
    convolution,
    linear,
    norm,
    quotient,
)
from growth.architectures.families.deberta import DEBERTA, EMBEDDED, projected

_SELF = "encoder.layer.*.attention.self"


_DENSE = "encoder.layer.*.attention.output.dense"


_V1 = (
    f"{_SELF}",
    f"{_SELF}.in_proj",
    f"{_SELF}.pos_proj",
    f"{_SELF}.pos_q_proj",
    f"{_SELF}.head_logits_proj",
    f"{_SELF}.head_weights_proj",
)


def _groups(config: Any, sizes: Sizes) -> int:
    """The number of groups at these sizes: it grows with the channels, so a group stays as wide."""
    width = quotient(config, config.hidden_size, config.conv_groups, ("features (hidden_size)", "conv_groups"))
    return quotient(config, sizes["hidden_size"], width, ("features (hidden_size)", "of them in a group"))


def _convolves(config: Any) -> bool:
    return bool(getattr(config, "conv_kernel_size", 0) > 0)


def _for_config(architecture: Architecture, config: Any) -> Architecture:
    architecture = projected(architecture, config)
    if _convolves(config):
        touched = LayerNorm(elementwise=True)
        architecture = replace(architecture, laws={**architecture.laws, RESIDUAL: touched, EMBEDDED: touched})
    if getattr(config, "conv_groups", 1) == 1:
        return architecture
    grouped = {
        "weight": (Writes(RESIDUAL), Keeps(), Keeps()),
        "bias": (Writes(RESIDUAL),),
    }  # a group is one copy, so it is read with 1
    return replace(
        architecture,
        modules={**architecture.modules, "encoder.conv.conv": grouped},
        sizes={**architecture.sizes, "conv_groups": Size("conv_groups", "follows", follows=_groups, small=2)},
    )


DEBERTA_V2 = replace(
    DEBERTA,
    model_type="deberta-v2",
    modules={
        **{name: rule for name, rule in DEBERTA.modules.items() if name not in _V1},
        **attention(
            f"{_SELF}.query_proj", f"{_SELF}.key_proj", f"{_SELF}.value_proj", _DENSE, reads=RESIDUAL, writes=RESIDUAL
        ),
        f"{_SELF}.pos_key_proj": linear(RESIDUAL, KEYS),
        f"{_SELF}.pos_query_proj": linear(RESIDUAL, QUERIES),
        "encoder.LayerNorm": norm(RESIDUAL, RESIDUAL),
        "encoder.conv.conv": convolution(RESIDUAL, RESIDUAL),
        "encoder.conv.LayerNorm": norm(RESIDUAL, RESIDUAL),
    },
    for_config=_for_config,
    vouched={
        **{name: values for name, values in DEBERTA.vouched.items() if name != "talking_head"},
        "position_buckets": None,
        "norm_rel_ebd": None,
        "share_att_key": None,
        "conv_kernel_size": None,
        "conv_act": None,
        "conv_groups": None,
    },
    refuses=tuple(
        refusal.unless("a convolution keeps scale 1", lambda asked: _convolves(asked.config))
        for refusal in DEBERTA.refuses
    ),
    variants={"DebertaV2ForTokenClassification": Variant(modules={"classifier": linear(RESIDUAL)})},
    buffers=(
        "embeddings.position_ids",
        # The discriminator's head of v3's pre-training, which no class in transformers has.
        *(f"mask_predictions.{name}" for name in ("dense.weight", "dense.bias", "LayerNorm.weight", "LayerNorm.bias")),
        *(f"mask_predictions.classifier.{name}" for name in ("weight", "bias")),
    ),
    branches=(
        {},
        {
            **{
                "relative_attention": True,
                "pos_att_type": "p2c|c2p",
                "position_biased_input": False,
                "share_att_key": True,
            },
            **{"position_buckets": 4, "norm_rel_ebd": "layer_norm"},
        },
        {
            **{"relative_attention": True, "pos_att_type": "p2c", "type_vocab_size": 2, "tie_word_embeddings": False},
            **{"conv_kernel_size": 3, "conv_act": "gelu", "attention_head_size": 64, "embedding_size": 128},
        },
        {"relative_attention": True, "pos_att_type": "c2p", "legacy": False, "conv_kernel_size": 3, "conv_groups": 24},
        {"relative_attention": True, "pos_att_type": "p2c|c2p", "max_relative_positions": 4, "embedding_size": 128},
    ),
)
