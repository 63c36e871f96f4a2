"""M2M-100 and NLLB: refused, as XGLM is. The code computes sinusoids from the width and adds them
to the residual stream."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from growth.architectures import Architecture, UnsupportedModelError
from growth.architectures.families.xglm import XGLM

_REASON = (
    "its code adds sinusoids of frequencies 10000**(-j / (d_model/2 - 1)) to the residual stream; those of a wider "
    "model are others, and "
    "neither a checkpoint nor a weight can hold the old ones"
)


def _refuse(architecture: Architecture, config: Any) -> Architecture:
    raise UnsupportedModelError(
        f"m2m_100 cannot be widened exactly: {_REASON}. Use a model with learned or rotary positions."
    )


M2M_100 = replace(
    XGLM,
    model_type="m2m_100",
    for_config=_refuse,
    without=dict.fromkeys(("M2M100Model", "M2M100ForConditionalGeneration"), _REASON),
)
