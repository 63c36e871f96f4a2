"""What stands in the way of a model in memory, before it grows."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel

from growth.errors import IllegalGrowthError, UnsupportedModelError
from growth.plan.plan import Plan
from growth.training.lr_schedulers import check_scheduler
from growth.training.moments import Moments
from growth.training.optimizer_checks import Hyper, check_optimizer
from growth.weights.model_weights import check_dtypes


def check_training(
    stock: PreTrainedModel, optimizer: Optimizer | None, scheduler: LRScheduler | None, moments: Moments, hyper: Hyper
) -> None:
    """Refuse an optimizer or scheduler that cannot grow, before the model does."""
    if torch.is_inference_mode_enabled():
        raise IllegalGrowthError(
            "tensors made in inference mode can never be trained. Use torch.no_grad() instead, or widen outside of it."
        )
    if optimizer is not None:
        check_optimizer(optimizer, stock, moments, hyper)
        if scheduler is not None:
            check_scheduler(scheduler, optimizer, hyper)
    elif scheduler is not None:
        raise IllegalGrowthError(
            "a scheduler drives an optimizer. Give that too: growth.widen(model, optimizer=..., scheduler=...)."
        )


def part_copies(moments: Moments, states: Iterable[Mapping[str, Any]]) -> bool:
    """Whether moments make equal copies train apart, slowly: under ``fresh``, where there are any.

    Args:
        moments: what becomes of them.
        states: of the old parameters: without moments before an optimizer's first step, or where it has none.
    """
    return moments == "fresh" and any(
        isinstance(one, Tensor) and one.ndim for state in states for one in state.values()
    )


def warn_of_equal_copies(plan: Plan, parted: bool) -> None:
    """A `UserWarning` where a model is to be trained on whose copies are equal and stay so: equal copies
    with equal moments get equal updates.

    Args:
        plan: how it grew.
        parted: whether moments make the copies differ (`part_copies`).
    """
    experts = plan.extension is not None and plan.extension.equal_experts
    if not parted and (experts or (plan.widens and not plan.options.breaking.breaks)):
        warnings.warn(
            f"with symmetry={plan.options.symmetry!r} the copies{' of experts' if experts else ''} are equal and "
            "train as one (dropout aside), so that the large model learns what the small one would, at its own cost. "
            "Leave symmetry out, unless that trajectory is what you want.",
            stacklevel=3,
        )


def check_ties(ties: Mapping[str, str], expected: Collection[str], tied: Mapping[str, str]) -> None:
    """Refuse weights that are tied in this model, but not by its config: a wider model built from
    the config would not tie them."""
    for key, shared in ties.items():
        if key in expected and key not in tied and shared not in tied:
            raise UnsupportedModelError(
                f"'{key}' is tied to '{shared}' in this model, but not by its config. Give it a separate weight, or "
                "set config.tie_word_embeddings if that is the tie."
            )


def check_state(plan: Plan, state: Mapping[str, Tensor], expected: Collection[str], name: str) -> None:
    """Refuse tensors that a model of this config does not have, or that have no float dtype."""
    for key in (key for key in state if key not in plan.left_out):
        if key not in expected:
            raise UnsupportedModelError(
                f"tensor '{key}' does not belong to a {name} with this config. Remove it, or correct the config."
            )
    check_dtypes(plan)
