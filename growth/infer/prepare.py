"""The way every growth begins: options, declaration, plan.

`growth.plan_widening`, `growth.widen_checkpoint` and `growth.widen` all come through here. What follows is
the twin (`growth.proof.twin.prove_twin`) and, tensor by tensor, `growth.weights.grow.grown_tensors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch

from growth.architectures.choosable import choosable_sizes
from growth.errors import IllegalGrowthError, IllegalShapeError
from growth.hf.configs import Config
from growth.hf.expected_tensors import Shapes, expected_tensors
from growth.infer.declaration import declaration
from growth.plan.build import build_plan, plan_config
from growth.plan.choice_notes import choice_notes, other_family
from growth.plan.declared import Declared
from growth.plan.options import KEEP, Options
from growth.plan.plan import Plan


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

    Example:
        >>> raw = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
        >>> prepare(raw, Options(width=2)).new_sizes["hidden_size"]
        8192
    """
    config = Config.of(raw)
    declared = declaration(config, options, shapes)
    if options.towers and not declared.inferred:
        options = only_towers(config, options, declared)
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
    if declared.inferred:
        check_shapes(plan)
    return replace(plan, notes=(*notes, *choice_notes(plan), *plan.notes))


def check_shapes(plan: Plan) -> None:
    """Refuse a plan whose tensors are not those that the class makes of the new config: it may round a size up, or
    have a limit that neither the small model nor its miniature reaches.

    Raises:
        IllegalShapeError: naming the first tensor.
    """
    made = {
        plan.architecture.canonical(name): shape
        for name, shape in expected_tensors(plan.new, plan.model_class)[0].items()
    }
    for name, tensor in plan.tensors.items():
        shape = made.get(tensor.canonical)
        if shape is not None and len(shape) == len(tensor.new_shape) and tuple(shape) != tuple(tensor.new_shape):
            raise IllegalShapeError(
                f"'{name}' would become {list(tensor.new_shape)}, and a {plan.model_class.__name__} with the new "
                f"config has {list(shape)} there: its class rounds a size. Name sizes that it leaves as they are, one "
                "by one."
            )


def only_towers(config: Config, options: Options, declared: Declared) -> Options:
    """The options with the sizes of all other towers kept, of a model whose declaration was made by hand.

    Raises:
        IllegalGrowthError: for a tower that the model does not have.

    Example:
        >>> from growth import architectures
        >>> raw = Config({"model_type": "clip", "architectures": ["CLIPModel"]})
        >>> options = only_towers(raw, Options(towers=("text",)), Declared(architectures.find("clip")))
        >>> {name.partition(".")[0] for name in options.sizes}
        {'vision_config'}
    """
    sizes = choosable_sizes(declared.base.at(config.parsed).sizes, config.parsed)
    sections = sorted({size.field.rpartition(".")[0] for size in sizes.values()} - {""})
    for tower in options.towers:
        if not any(tower in (section, section.partition("_")[0]) for section in sections):
            has = f"it has {', '.join(sections)}" if sections else "it is of one piece"
            raise IllegalGrowthError(
                f"this {config['model_type']} has no tower '{tower}': {has}. Name one of those, or leave towers out."
            )
    kept = {
        name: KEEP
        for name, size in sizes.items()
        if (section := size.field.rpartition(".")[0]) and not {section, section.partition("_")[0]} & {*options.towers}
    }
    return replace(options, sizes={**kept, **options.sizes})
