"""XLM-RoBERTa and CamemBERT: RoBERTa under other names."""

from dataclasses import replace

from growth.architecture import Variant
from growth.architectures.roberta import ROBERTA
from growth.rules.head import POOLED
from growth.rules.linear import linear

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
