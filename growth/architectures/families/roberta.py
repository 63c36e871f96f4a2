"""RoBERTa: BERT's encoder with different heads."""

from __future__ import annotations

from dataclasses import replace

from growth.architectures import FINAL, POOLED, RESIDUAL, Keeps, Variant, linear, mlm_transform
from growth.architectures.families.bert import BERT, ENCODER

ROBERTA = replace(
    BERT,
    model_type="roberta",
    modules={
        **ENCODER,
        **mlm_transform("lm_head.dense", "lm_head.layer_norm"),
        "lm_head": {"bias": (Keeps(),)},
        "lm_head.decoder": linear(FINAL),
        "classifier.dense": linear(RESIDUAL, POOLED),
        "classifier.out_proj": linear(POOLED),
        "classifier": linear(RESIDUAL),
    },
    prefixes=("roberta",),
    variants={"RobertaForMultipleChoice": Variant(modules={"classifier": linear(POOLED)})},
)
