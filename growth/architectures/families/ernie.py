"""ERNIE: BERT with a further embedding, of the task."""

from __future__ import annotations

from dataclasses import replace

from growth.architectures import RESIDUAL, Variant, embedding, linear
from growth.architectures.families.bert import BERT

ERNIE = replace(
    BERT,
    model_type="ernie",
    modules={**BERT.modules, "embeddings.task_type_embeddings": embedding(RESIDUAL)},
    prefixes=("ernie",),
    vouched={**BERT.vouched, "use_task_id": None, "task_type_vocab_size": None},
    variants={"ErnieForTokenClassification": Variant(modules={"classifier": linear(RESIDUAL)})},
    branches=({}, {"use_task_id": True, "is_decoder": True, "tie_word_embeddings": False}),
)
