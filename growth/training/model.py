"""Widening a model in memory: the same plan, the same proofs and the same arithmetic as for a
checkpoint on disk."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar, Unpack, cast

import torch
import transformers
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel

from growth.errors import CheckpointError, IllegalGrowthError, UnsupportedModelError
from growth.hf.configs import Config
from growth.hf.custom_modules import ModuleWrapper, as_transformers, inner_module
from growth.hf.expected_tensors import expected_tensors
from growth.hf.tensor_names import to_disk
from growth.plan.choices import Choices, takes_choices
from growth.plan.options import chosen
from growth.plan.plan import Plan
from growth.plan.text import grown_table, note_parts
from growth.proof.prepare import prepare
from growth.proof.twin import Proof, prove_twin
from growth.text import Part, Shown
from growth.training.lr_schedulers import check_scheduler, repoint
from growth.training.moments import Moments
from growth.training.optimizer import grow_optimizer
from growth.training.optimizer_checks import Hyper, check_optimizer
from growth.training.rebuild import rebuild, without_ties
from growth.training.wrappers import check_unwrapped, uncompiled
from growth.weights.fold import Fold
from growth.weights.model_weights import check_dtypes, growing_tensors

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, repr=False)
class Grown(Shown, Generic[M]):
    """A widened model, of the class of the one given, how it was made and what was proved.

    Args:
        model: the wider model.
        plan: how it grew.
        proof: what was proved.
        optimizer, scheduler: likewise for the grown model, if they were given.
        uneven: parameters whose copies want learning rates (or decays) of their own, of which the
            optimizer holds the mean.
        born: parameters with coordinates of which no old gradient says what they receive. With
            neither, and without noise or a split, training goes on exactly as before.
    """

    model: M
    plan: Plan
    proof: Proof
    optimizer: Optimizer | None = None
    scheduler: LRScheduler | None = None
    uneven: tuple[str, ...] = ()
    born: tuple[str, ...] = ()

    def _parts(self) -> Sequence[Part]:
        return [grown_table(self.plan), str(self.proof), *note_parts(self.plan)]

    def __repr__(self) -> str:
        return f"Grown({self.plan!r})"


@takes_choices
def widen(
    model: M,
    *,
    optimizer: Optimizer | None = None,
    scheduler: LRScheduler | None = None,
    moments: Moments = "preserve",
    hyper: Hyper = "preserve",
    allow_nonfinite: bool = False,
    **choices: Unpack[Choices],
) -> Grown[M]:
    """A new, wider model that computes the same function. The one given is not touched.

    Devices, dtypes, ties, ``requires_grad``, train or eval mode of every module, ``nn.Dropout.p``,
    gradient checkpointing and the generation config are kept. Gradients, hooks and attributes set
    by hand are not, so grow between steps. A compiled model is grown uncompiled: compile the
    result. Dropout masks are drawn anew: "the same function" is that of eval mode.

    Args:
        model: a stock transformers model of a declared architecture, or a module whose class was
            registered; not under DDP, FSDP or PEFT.
        optimizer: of the model; its state and settings grow too, and the result's ``optimizer``
            goes on where it was.
        scheduler: of that optimizer; the result's ``scheduler`` drives the grown one from the same
            step on.
        moments: ``preserve``, ``fresh`` or ``reset``, see
            `growth.training.optimizer.grow_optimizer`.
        hyper: ``preserve`` sets learning rate, epsilon and weight decay per tensor so that training
            goes on as the old model's would, ``keep`` leaves them as they are.
        allow_nonfinite: carry NaN and infinity over instead of refusing them.
        choices: how to grow, see below.

    Raises:
        UnsupportedModelError: for a foreign model, or a wrapped one (the sentence says what to do
            with that).
        GrowthError: in one sentence, for anything else that stands in the way.

    Example:
        >>> grown = growth.widen(model, width=2, optimizer=optimizer, noise=1.0)
        >>> model, optimizer = grown.model, grown.optimizer
    """
    model = cast(M, uncompiled(model))
    stock = _stock(model)
    options = chosen(choices)
    _check_training(stock, optimizer, scheduler, moments, hyper)
    name = type(model).__name__
    config = Config({**stock.config.to_dict(), "architectures": [name]})
    in_memory, ties = without_ties(stock)
    state = to_disk(stock, in_memory)
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    dtypes = {key: value.dtype for key, value in state.items()}
    expected, tied = expected_tensors(config, type(stock))
    _check_ties(ties, expected, tied)
    plan = prepare(config, options, shapes, dtypes)
    _check_state(plan, state, expected, name)
    twin, fold = prove_twin(plan), Fold()
    growing = growing_tensors(plan, plan.tensors, state.__getitem__, dtypes, fold, allow_nonfinite=allow_nonfinite)
    new = rebuild(stock, plan, {each.name: each.whole() for each in growing}, ties)
    result = Grown(cast(M, inner_module(new)), plan, Proof(twin, fold))
    if optimizer is None:
        return result
    trained = grow_optimizer(optimizer, stock, new, plan, moments=moments, hyper=hyper)
    driven = None if scheduler is None else repoint(scheduler, trained.optimizer, trained.groups)
    return replace(result, optimizer=trained.optimizer, scheduler=driven, uneven=trained.uneven, born=trained.born)


def _stock(model: nn.Module) -> PreTrainedModel:
    """The model as a transformers model: itself, or a registered module in that form.

    Raises:
        UnsupportedModelError: for a model that is wrapped, sharded, or of a class that is neither
            transformers' own nor registered.
    """
    check_unwrapped(model)
    name = type(model).__name__
    stock = as_transformers(model) or model
    known = isinstance(stock, ModuleWrapper) or getattr(transformers, name, None) is type(stock)
    if not isinstance(stock, PreTrainedModel) or not known:
        raise UnsupportedModelError(
            f"{name} is neither a stock transformers model class nor a registered one. If it wraps one, widen what is "
            "inside; else declare it with growth.register."
        )
    return stock


def _check_training(
    stock: PreTrainedModel, optimizer: Optimizer | None, scheduler: LRScheduler | None, moments: Moments, hyper: Hyper
) -> None:
    """All that can be refused about optimizer and schedule before the model grows."""
    if torch.is_inference_mode_enabled():
        raise IllegalGrowthError(
            "what is made in inference mode can never be trained. Use torch.no_grad(), or widen outside of it."
        )
    if optimizer is not None:
        check_optimizer(optimizer, stock, moments, hyper)
        if scheduler is not None:
            check_scheduler(scheduler, optimizer, hyper)
    elif scheduler is not None:
        raise IllegalGrowthError(
            "a scheduler drives an optimizer. Give that too: growth.widen(model, optimizer=..., scheduler=...)."
        )


def _check_ties(ties: Mapping[str, str], expected: Collection[str], tied: Mapping[str, str]) -> None:
    """Refuse parameters that are one in this model, but not by its config: a wider model would untie them."""
    for key, shared in ties.items():
        if key in expected and key not in tied and shared not in tied:
            raise UnsupportedModelError(
                f"'{key}' is one with '{shared}' in this model, but not by its config. Give it a weight of its own, "
                "or, if that is the tie, set config.tie_word_embeddings."
            )


def _check_state(plan: Plan, state: Mapping[str, Tensor], expected: Collection[str], name: str) -> None:
    """Refuse tensors that a model of this config does not have, or that hold no weights that can be split."""
    for key in plan.tensors:
        if key not in expected:
            raise UnsupportedModelError(
                f"tensor '{key}' is none of a {name} of this config. Remove it, or correct the config."
            )
        if state[key].is_meta:
            raise CheckpointError(f"tensor '{key}' has no data (device meta). Load the model first.")
    check_dtypes(plan)
