"""The way every growth begins: options, declaration, plan.

`growth.plan_widening`, `growth.widen_checkpoint` and `growth.widen` all come through here. What follows is
the twin (`growth.proof.twin.prove_twin`) and, tensor by tensor, `growth.weights.grow.grown_tensors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch

from growth.errors import IllegalGrowthError
from growth.hf.configs import Config
from growth.hf.expected_tensors import Shapes
from growth.plan.build import build_plan, plan_config
from growth.plan.choice_notes import choice_notes, other_family
from growth.plan.options import Options
from growth.plan.plan import Plan
from growth.infer.declaration import declaration


def prepare(
    raw: Mapping[str, Any],
    options: Options,
    shapes: Shapes | None = None,
    dtypes: Mapping[str, torch.dtype] | None = None,
    notes: Iterable[str] = (),
) -> Plan:
    """The plan for a model, by the declaration of its ``model_type`` or one that fits it.

    Args:
        raw: the model's config.
        options: the caller's.
        shapes: tensor name -> shape; by default those of the class that the config names.
        dtypes: tensor name -> dtype, where the weights are known.
        notes: what the plan should say about how they were read.

    Raises:
        GrowthError: for anything that stands in the way and can be told without reading a weight.
    """
    config = Config.of(raw)
    declared = declaration(config, options, shapes)
    try:
        if shapes is None:
            plan = plan_config(config, options, declared)
        else:
            plan = build_plan(config, shapes, options, declared, dtypes=dtypes)
    except IllegalGrowthError as error:
        own = str(config["model_type"])
        if (other := other_family(own, options.like)) is None:
            raise
        raise IllegalGrowthError(
            f"{error} The other model is a {other}, this one a {own}, so not every size means the same."
        ) from error
    return replace(plan, notes=(*notes, *choice_notes(plan), *plan.notes))
