"""Frozen growth: the old model's weights stay, and only what growth added learns."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from growth.arguments import check_kind
from growth.errors import IllegalGrowthError
from growth.plan.plan import Plan
from growth.training.coordinates import masks_of
from growth.training.model import Grown
from growth.training.recorded import recorded_plan
from growth.training.step_hooks import Held, Hooks, Mask, around_steps
from growth.training.wrappers import check_not_sharded, uncompiled

By = Plan | str | os.PathLike[str] | None


@dataclass(frozen=True, eq=False, repr=False)
class NewOnly(Hooks):
    """A frozen growth in progress, until ``remove()`` or the end of a ``with`` block.

    Args:
        handles: the hooks.
        whole: parameters that have nothing new and trained before; they do not in between.
        new, weights: how many weights train, and how many the model has.
        partly: number of parameters of which a part is new.
    """

    whole: tuple[nn.Parameter, ...]
    new: int
    weights: int
    partly: int

    def remove(self) -> None:
        """End it: every weight that trained before trains again."""
        super().remove()
        for parameter in self.whole:
            parameter.requires_grad_(True)

    def __repr__(self) -> str:
        return (
            f"NewOnly({self.new:,} of {self.weights:,} weights train; {self.partly} parameters in part, "
            f"{len(self.whole)} not at all)"
        )


def new_coordinates(model: Grown[Any] | nn.Module, plan: By = None) -> dict[str, Tensor]:
    """Which weights of a grown model are new, as `Grown.new_coordinates`, also after a restart.

    Args:
        model: what `growth.widen` returned, or a model that grew before and was loaded since.
        plan: how that grew: a plan (`growth.plan_widening` of the old config and the same choices
            makes it again, without reading a weight), or the folder that
            `growth.widen_checkpoint` wrote, whose ``growth.json`` says it. None for what
            `growth.widen` returned, which has its plan.

    Returns:
        Parameter name -> boolean tensor of the parameter's shape, on the CPU.

    Raises:
        IllegalGrowthError: no plan, or one of another model.
        CheckpointError: a folder that does not say how its model grew.
        UnsupportedModelError: a model that is wrapped or sharded.

    Example:
        >>> growth.widen_checkpoint("small", "wide", width=2)
        >>> model = AutoModelForCausalLM.from_pretrained("wide")
        >>> masks = new_coordinates(model, "wide")
    """
    check_kind("model", model, (Grown, nn.Module), "what growth.widen returned, or a model")
    check_kind("plan", plan, (Plan, str, os.PathLike, type(None)), "a growth.Plan, or the folder of a grown model")
    if isinstance(model, Grown):
        if plan is not None:
            raise IllegalGrowthError("what growth.widen returned has its plan. Leave the second one out.")
        return model.new_coordinates()
    if plan is None:
        raise IllegalGrowthError(
            "a model alone does not say how it grew. Give what growth.widen returned, or add the plan, or the folder "
            "that growth wrote."
        )
    return masks_of(model, plan if isinstance(plan, Plan) else recorded_plan(plan))


def train_new_only(model: Grown[Any] | nn.Module, plan: By = None) -> NewOnly:
    """From now on, train only what growth added: the old model's weights stay as they are, bit for
    bit.

    A parameter with nothing new stops training (``requires_grad=False``), so that no gradient and
    no optimizer state is spent on it. Where a part of a parameter is new, hooks set the gradient of
    the rest to zero, so that clipping and moments see the new part alone; and hooks around every
    optimizer's step put the rest back, whatever weight decay, momentum or a fused kernel made of
    it. That goes for the optimizer that growth returned and for one that is made later, by
    `transformers.Trainer` or accelerate for example. It costs a byte per weight of those
    parameters, and during a step a copy of their held weights.

    Frozen are the first copies of the old coordinates (`Grown.new_coordinates`): in matrices,
    embeddings (a tied head with them), biases and the gains of norms alike. The old *weights* stay,
    and not the old function: once new coordinates have moved, they enter the sums and norms of the
    old ones. What the small model had learned is still there to read off.

    Call it before a model is wrapped (DDP) and before Trainer is made. Not for sharded models
    (FSDP, DeepSpeed), whose optimizers step other tensors.

    Args:
        model: what `growth.widen` returned, or a model that grew before and was loaded since.
        plan: how that grew, see `new_coordinates`.

    Returns:
        The frozen growth: ``remove()`` ends it, as does the end of a ``with`` block. Printed, it
        says how much trains.

    Raises:
        IllegalGrowthError: no plan, one of another model, or nothing new that trains.
        CheckpointError: a folder that does not say how its model grew.
        UnsupportedModelError: a model that is wrapped or sharded.

    Example:
        >>> model = AutoModelForCausalLM.from_pretrained("wide")
        >>> with train_new_only(model, "wide"):
        ...     Trainer(model, arguments, train_dataset=new_text).train()

    References:
        Wu et al. 2024, "LLaMA Pro: Progressive LLaMA with Block Expansion", arXiv 2401.02415, for
        inserted layers; "SCALE: Upscaled Continual Learning of Large Language Models", arXiv
        2511.03270, for width.
    """
    inner = uncompiled(model.model if isinstance(model, Grown) else model)
    check_not_sharded(inner, "Training the new coordinates alone is not for sharded models: train all of it.")
    masks = new_coordinates(model, plan)
    return hold_old({inner.get_parameter(name): new for name, new in masks.items()})


def hold_old(masks: dict[nn.Parameter, Tensor]) -> NewOnly:
    """`train_new_only`, of parameters and which of their weights are new.

    Raises:
        IllegalGrowthError: nothing new that trains.
    """
    training = {parameter: new for parameter, new in masks.items() if parameter.requires_grad}
    whole = tuple(parameter for parameter, new in training.items() if not new.any())
    partly = {parameter: ~new for parameter, new in training.items() if new.any() and not new.all()}
    trained = sum(int(new.sum()) for new in training.values())
    if not trained:
        raise IllegalGrowthError(
            "nothing new in this model trains, so that nothing would learn. Set requires_grad on the parameters that "
            "grew, or train all of it."
        )
    for parameter in whole:
        parameter.requires_grad_(False)
        parameter.grad = None
    hooks = []
    for parameter, old in partly.items():
        only_new = _gradients_of_new(Mask(old))
        hooks.append(parameter.register_hook(only_new))
        if parameter.grad is not None:  # of a backward pass before
            parameter.grad = only_new(parameter.grad)
    return NewOnly(
        (*hooks, *around_steps(Held(partly))), whole, trained, sum(new.numel() for new in masks.values()), len(partly)
    )


def _gradients_of_new(old: Mask) -> Callable[[Tensor], Tensor]:
    """A hook on the gradient of one parameter, which sets that of its old weights to zero."""

    def only_new(gradient: Tensor) -> Tensor:
        held = old.on(gradient.device)
        if not gradient.is_sparse:
            return gradient.masked_fill(held, 0)
        rows = gradient.coalesce()
        values = rows.values().masked_fill(held[tuple(rows.indices())], 0)
        return torch.sparse_coo_tensor(rows.indices(), values, rows.shape, is_coalesced=True, check_invariants=False)

    return only_new
