"""Which weights of a grown model are new, and which hold the old model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from growth.errors import IllegalGrowthError, UnsupportedModelError
from growth.extension.part import Part
from growth.hf.custom_modules import MODULE, ModuleWrapper
from growth.hf.inner_names import parameters_of
from growth.hf.own_modules import in_wrapper
from growth.hf.tensor_names import from_disk, to_disk
from growth.plan.plan import Plan
from growth.plan.tensor_plan import TensorPlan
from growth.training.wrappers import own_classes, uncompiled


def new_weights(tensor: TensorPlan, part: Part | None = None) -> Tensor:
    """Of the grown tensor's shape: which weights are not the first copy along every dimension.

    Args:
        tensor: how it was widened.
        part: where it came from before, if the model was extended. All of a tensor that the model
            did not have is new, and so are entries that it has a second time.
    """
    if part is not None and part.new:
        return torch.ones(tensor.new_shape, dtype=torch.bool)
    old = torch.ones(tensor.new_shape, dtype=torch.bool)
    for axis, d in enumerate(tensor.dimensions):
        first = d.first_copies
        if part is not None and part.take and (once := part.firsts[axis]) is not None:
            first = first & once[d.source]
        old &= torch.from_numpy(first).reshape([-1 if i == axis else 1 for i in range(old.ndim)])
    return ~old


def masks_of(model: nn.Module, plan: Plan) -> dict[str, Tensor]:
    """Parameter name -> which of its weights are new, for every parameter of a grown model.

    The plan goes by names on disk, perhaps of a file without the base model's prefix; a model goes
    by names in memory, where experts are fused and projections stand the other way round.

    Args:
        model: that grew, as widening returned it or as it was loaded since; on any device, sharded or not.
        plan: how it grew.

    Returns:
        Boolean tensors on the CPU; the names are those of ``model.named_parameters()``.

    Raises:
        IllegalGrowthError: a parameter of which the plan says nothing, or another shape.
        UnsupportedModelError: a model that is wrapped.
    """
    inner = uncompiled(model)
    with own_classes(inner):
        return _masks_of(inner, plan)


def _masks_of(inner: nn.Module, plan: Plan) -> dict[str, Tensor]:
    stock = in_wrapper(inner) or inner
    if not isinstance(stock, PreTrainedModel):
        raise UnsupportedModelError(
            f"{type(inner).__name__} is neither a transformers model nor a registered module. Give the model that "
            "growth.widen or from_pretrained returned, before DDP or PEFT wraps it."
        )
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in parameters_of(stock, remove_duplicate=False).items():
        names.setdefault(parameter, []).append(name)
    masks = _in_memory(stock, plan, names)
    found: dict[str, Tensor] = {}
    for parameter, spellings in names.items():
        mask = next((masks[name] for name in spellings if name in masks), None)
        if mask is None and not parameter.requires_grad:  # a table that the model computes by itself
            mask = torch.zeros(parameter.shape, dtype=torch.bool)
        name = spellings[0].removeprefix(f"{MODULE}.") if isinstance(stock, ModuleWrapper) else spellings[0]
        if mask is None or mask.shape != parameter.shape:
            raise IllegalGrowthError(
                f"'{name}' "
                + (
                    "is not in"
                    if mask is None
                    else f"has shape {list(parameter.shape)}, not the {list(mask.shape)} of"
                )
                + f" the plan of this {plan.model_class.__name__} ({plan.choices}). Give the model that grew by it, "
                "before anything is added to it."
            )
        found[name] = mask
    return found


def _in_memory(stock: PreTrainedModel, plan: Plan, names: Mapping[nn.Parameter, Iterable[str]]) -> dict[str, Tensor]:
    """Name in memory -> mask, for the parameters that the plan has under any of their names."""
    planned = {tensor.canonical: tensor for tensor in plan.tensors.values()}
    empty = {name: torch.empty(parameter.shape, device="meta") for parameter, given in names.items() for name in given}
    canonical = {name: plan.architecture.canonical(name) for name in to_disk(stock, empty)}
    parts = {} if plan.extension is None else plan.extension.parts
    return from_disk(
        stock,
        {
            name: new_weights(planned[short], parts.get(planned[short].name))
            for name, short in canonical.items()
            if short in planned
        },
    )
