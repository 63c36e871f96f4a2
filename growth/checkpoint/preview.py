"""`plan_widening`: what widening would do, from a folder, a hub id, a config or a model in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Unpack

from torch import nn
from transformers import PreTrainedConfig

from growth.checkpoint.companions import companion_notes
from growth.checkpoint.fsdp import plan_fsdp
from growth.checkpoint.pipeline import open_pipeline
from growth.errors import UnsupportedModelError, shown
from growth.hf.computed_tables import completed
from growth.hf.custom_modules import raw_config
from growth.hf.growable import check_growable, grown_as_fsdp
from growth.hf.reader import open_checkpoint
from growth.infer.prepare import prepare
from growth.plan.choices import Choices, takes_choices
from growth.plan.loading import loading_note
from growth.plan.options import chosen
from growth.plan.plan import Plan
from growth.training.stock import model_plan


@takes_choices
def plan_widening(
    source: str | os.PathLike[str] | PreTrainedConfig | Mapping[str, Any] | nn.Module,
    *,
    config: Any = None,
    build: Callable[[Any], nn.Module] | None = None,
    inputs: Any = None,
    **choices: Unpack[Choices],
) -> Plan:
    """What widening a model would do, without reading a weight.

    Args:
        source: a checkpoint folder or hub id, whose headers give the tensor names and shapes; a
            config, whose class (named in ``architectures``, or registered with it) gives them; or a
            model in memory, as `growth.widen` takes it.
        config: of a folder that was saved under FSDP, as in `growth.widen_checkpoint`; of a module of your own
            in memory, as in `growth.widen`.
        build, inputs: of such a module.

    Returns:
        The plan: print it, or read ``plan.to_json()``.

    Raises:
        GrowthError: anything that stands in the way.

    Example:
        >>> print(plan_widening(LlamaConfig(hidden_size=64, num_attention_heads=4), width=2))
    """
    options = chosen(choices)
    if isinstance(source, nn.Module):
        return model_plan(source, options, config, build, inputs)
    if isinstance(source, (str, os.PathLike)) and build is None and inputs is None:
        check_growable(source, config)
        if (found := grown_as_fsdp(source)) is not None:
            return plan_fsdp(found, config, options)
    if any(value is not None for value in (config, build, inputs)):
        raise UnsupportedModelError(
            f"config=, build= and inputs= say how a module in memory is built and run, and {shown(source)} is none. "
            "Leave them out, or pass the module."
        )
    if isinstance(source, (str, os.PathLike)):
        checkpoint = completed(open_checkpoint(source))
        plan = prepare(checkpoint.config, options, checkpoint.shapes, checkpoint.dtypes, checkpoint.notes)
        pipeline = open_pipeline(checkpoint.files, plan)
        more = [pipeline.note if pipeline else "", loading_note(plan), *companion_notes(checkpoint.files, plan)]
        return replace(plan, notes=(*plan.notes, *filter(None, more)))
    raw = source.to_dict() if isinstance(source, PreTrainedConfig) else raw_config(source) or source
    if not isinstance(raw, Mapping):
        raise UnsupportedModelError(
            f"a plan is made of a folder, a hub id, a config or a model, not of {shown(source)}. Name the folder of a "
            "model."
        )
    return prepare(raw, options)
