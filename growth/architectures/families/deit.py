"""DeiT: ViT with a distillation token beside the class token, and a head for each."""

from __future__ import annotations

from dataclasses import replace

from growth.architectures import FINAL, RESIDUAL, Keeps, Writes, linear
from growth.architectures.families.vit import TOKENS, VIT

DEIT = replace(
    VIT,
    model_type="deit",
    modules={
        **VIT.modules,
        "embeddings": {**TOKENS["embeddings"], "distillation_token": (Keeps(), Keeps(), Writes(RESIDUAL))},
        "cls_classifier": linear(FINAL),
        "distillation_classifier": linear(FINAL),
    },
    prefixes=("deit",),
)
