"""DeiT: ViT with a distillation token beside the class token, and a head for either."""

from dataclasses import replace

from growth.architectures.vit import TOKENS, VIT
from growth.role import Keeps, Writes
from growth.rules.linear import linear
from growth.rules.norm import FINAL, RESIDUAL

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
