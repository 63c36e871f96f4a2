"""`plan_widening`: what widening would do, from a folder, a hub id or a config."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedConfig

from growth import config
from growth.computed import completed
from growth.inventory import expected_tensors
from growth.lookalike import declaration
from growth.options import Options
from growth.own import raw_config
from growth.plan import Plan, build_plan
from growth.source import open_checkpoint


def plan_widening(
    source: str | os.PathLike[str] | PreTrainedConfig | Mapping[str, Any],
    *,
    width: int = 2,
    attention: str = "heads",
    rope: str = "slots",
    scaling: str = "unit",
    noise: float = 0.0,
    seed: int = 0,
    lossy: bool = False,
    vouch: Sequence[str] = (),
) -> Plan:
    """What widening a model would do, without reading a weight.

    Args:
        source: a checkpoint folder or hub id (tensor names and shapes are read from its headers), or a config (they are those of the
            class named in ``architectures``, or registered with it).
        width, attention, rope, scaling, noise, seed, lossy, vouch: see `Options`.

    Raises:
        GrowthError: in one sentence, for anything that stands in the way.

    Example:
        >>> print(plan_widening(LlamaConfig(hidden_size=64, num_attention_heads=4), width=2))
    """
    options = Options(width, attention, rope, scaling, noise, seed, lossy, tuple(vouch))  # type: ignore[arg-type]
    if isinstance(source, (str, os.PathLike)):
        checkpoint = completed(open_checkpoint(source))
        declared = declaration(checkpoint.config, options)
        return replace(build_plan(checkpoint.config, checkpoint.shapes, options, declared), dtypes=checkpoint.dtypes)
    raw = source.to_dict() if isinstance(source, PreTrainedConfig) else raw_config(source) or dict(source)
    shapes, ties = expected_tensors(raw, config.model_class(raw))
    return build_plan(raw, {name: shape for name, shape in shapes.items() if name not in ties}, options, declaration(raw, options))
