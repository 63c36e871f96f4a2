"""XGLM: refused. Fixed sinusoids are added to the residual stream, and no wider stream holds the
old ones.

Frequency j of a table of width d is ``10000**(-j / (d/2 - 1))``. In width kd that frequency has the
number ``j (k d/2 - 1) / (d/2 - 1)``, which is whole for few j only. The code computes the table, so
no weight can silence it, and it enters every norm.
"""

from __future__ import annotations

from typing import Any

from growth.architectures import (
    EVERY_GROWTH,
    RESIDUAL,
    Architecture,
    LayerNorm,
    UnsupportedModelError,
)

_REASON = (
    "its code adds sinusoids to the residual stream whose frequencies depend on the width, the old ones are not among "
    "those of a wider "
    "model, and no weight could silence the others"
)


def _refuse(architecture: Architecture, config: Any) -> Architecture:
    raise UnsupportedModelError(
        f"xglm cannot be widened exactly: {_REASON}. Use a model with learned or rotary positions."
    )


XGLM = Architecture(
    model_type="xglm",
    modules={},
    laws={RESIDUAL: LayerNorm()},
    outputs={},
    epsilon=1e-5,
    prefixes=("model",),
    for_config=_refuse,
    positions="sinusoids",
    refuses=(EVERY_GROWTH,),
    without=dict.fromkeys(("XGLMModel", "XGLMForCausalLM"), _REASON),
)
