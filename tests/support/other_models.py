"""Published configs, and in what a grown model misses the one it was to become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from growth.hf.config_comparison import alike, fields_of
from growth.hf.configs import parse
from growth.plan.plan import Plan

CONFIGS = Path(__file__).parent / "configs"
SMOLLM2_135M, SMOLLM2_360M = (
    json.loads((CONFIGS / f"smollm2-{size}.json").read_text(encoding="utf-8")) for size in ("135m", "360m")
)
"""As published, but for the version of transformers that wrote them."""


def missed(plan: Plan, other: PreTrainedConfig) -> dict[str, tuple[Any, Any]]:
    """Field -> its value in the grown model and in the other, where they differ."""
    grown, wanted = fields_of(parse(plan.new_config)), fields_of(other)
    left_aside = {"architectures", "dtype", "transformers_version"}
    return {
        name: (grown.get(name), wanted.get(name))
        for name in {*grown, *wanted} - left_aside
        if not alike(grown.get(name), wanted.get(name))
    }
