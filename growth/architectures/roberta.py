"""RoBERTa: BERT's encoder with heads of its own."""

from dataclasses import replace

from growth.architecture import Variant
from growth.architectures.bert import BERT, ENCODER
from growth.role import Keeps
from growth.rules.head import POOLED, transform
from growth.rules.linear import linear
from growth.rules.norm import FINAL, RESIDUAL

ROBERTA = replace(
    BERT,
    model_type="roberta",
    modules={
        **ENCODER,
        **transform("lm_head.dense", "lm_head.layer_norm"),
        "lm_head": {"bias": (Keeps(),)},
        "lm_head.decoder": linear(FINAL),
        "classifier.dense": linear(RESIDUAL, POOLED),
        "classifier.out_proj": linear(POOLED),
        "classifier": linear(RESIDUAL),
    },
    prefixes=("roberta",),
    variants={"RobertaForMultipleChoice": Variant(modules={"classifier": linear(POOLED)})},
)
