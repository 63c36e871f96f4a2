"""XLM-RoBERTa and CamemBERT: RoBERTa under other names."""

from __future__ import annotations

from dataclasses import replace

from growth.architectures import POOLED, Variant, linear
from growth.architectures.families.roberta import ROBERTA

XLM_ROBERTA = replace(
    ROBERTA,
    model_type="xlm-roberta",
    variants={"XLMRobertaForMultipleChoice": Variant(modules={"classifier": linear(POOLED)})},
    branches=({}, {"is_decoder": True, "tie_word_embeddings": False}),
)


CAMEMBERT = replace(
    XLM_ROBERTA,
    model_type="camembert",
    variants={"CamembertForMultipleChoice": Variant(modules={"classifier": linear(POOLED)})},
)
