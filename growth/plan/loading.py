"""What becomes of a result whose config names a coarser dtype than its weights are stored in, as a
merged shard of mixed-precision training does."""

from __future__ import annotations

import torch

from growth.hf.configs import parse
from growth.hf.dtypes import FLOATS, dtype_name
from growth.plan.plan import Plan
from growth.plan.rounding import result_dtypes


def loading_note(plan: Plan) -> str:
    """What loading rounds of copies that differ, and how not to; empty where nothing is.

    ``from_pretrained`` converts weights to the dtype of the config. Each is rounded by itself, so that
    copies whose sum was exact as stored (`growth.weights.exact_sums`) have another one.

    Args:
        plan: of a checkpoint; its result keeps the dtypes of the source.

    Example:
        >>> import growth
        >>> from dataclasses import replace
        >>> from transformers import LlamaConfig
        >>> plan = growth.plan_widening(LlamaConfig(num_hidden_layers=1, dtype="bfloat16"), width=2)
        >>> loading_note(plan)
        ''
        >>> loading_note(replace(plan, dtypes=dict.fromkeys(plan.tensors, torch.float32)))
        'the weights are float32, but config.json says bfloat16, ...'
    """
    said = parse(plan.old).dtype
    loaded = getattr(torch, said, None) if isinstance(said, str) else said
    if loaded not in FLOATS:
        return ""
    held, converted = plan.source_dtypes, result_dtypes(plan, loaded)
    coarser = [
        held[name]
        for name, tensor in plan.tensors.items()
        if tensor.symmetry.breaks and torch.finfo(converted[name]).eps > torch.finfo(held[name]).eps
    ]
    if not coarser:
        return ""
    name = dtype_name(loaded)
    return (
        f"the weights are {dtype_name(coarser[0])}, but config.json says {name}, to which from_pretrained rounds each "
        f"copy by itself: copies that differ then no longer add up to the last bit, by about what {name} rounds the "
        f"source too; under --dtype {name} they do"
    )
