"""Widening a model in memory: the same plan, the same proofs and the same arithmetic as for a checkpoint on disk."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, Unpack, cast

import torch
import transformers
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from growth.choices import Choices, chosen
from growth.config import parse
from growth.disk_names import from_disk, to_disk
from growth.dtypes import FLOATS
from growth.equivalence.report import Proof
from growth.equivalence.twin import prove_twin
from growth.errors import CheckpointError, IllegalGrowthError, ProofError, UnsupportedModelError
from growth.inventory import expected_tensors
from growth.lookalike import declaration
from growth.moments import Moments
from growth.optimizer import Hyper, check_optimizer, grow_optimizer
from growth.own import OwnModel, unwrapped, wrapped
from growth.plan import Plan, build_plan
from growth.schedule import check_scheduler, repoint
from growth.symmetry import UNBROKEN
from growth.tensor import Fold, grow_tensor
from growth.wrappers import check_unwrapped, uncompiled

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, repr=False)
class Grown(Generic[M]):
    """A widened model, of the class of the one given, how it was made and what was proved.

    Args:
        model: the wider model.
        plan: how it grew.
        proof: what was proved.
        optimizer, scheduler: likewise for the grown model, if they were given.
        uneven: parameters whose copies want learning rates (or decays) of their own, of which the optimizer holds the mean.
        born: parameters with coordinates of which no old gradient says what they receive. With neither, and without noise or a split,
            training goes on exactly as before.
    """

    model: M
    plan: Plan
    proof: Proof
    optimizer: Optimizer | None = None
    scheduler: LRScheduler | None = None
    uneven: tuple[str, ...] = ()
    born: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Grown({self.plan!r})\n{self.proof}"


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

    Devices, dtypes, ties, ``requires_grad``, train or eval mode of every module, ``nn.Dropout.p``, gradient checkpointing and the
    generation config are kept. Gradients, hooks and attributes set by hand are not, so grow between steps. A compiled model is grown
    uncompiled: compile the result. Dropout masks are drawn anew: "the same function" is that of eval mode.

    Args:
        model: a stock transformers model of a declared architecture, or a module whose class was registered; not under DDP, FSDP or PEFT.
        optimizer: of the model; its state and settings grow too, and the result's ``optimizer`` goes on where it was.
        scheduler: of that optimizer; the result's ``scheduler`` drives the grown one from the same step on.
        moments: ``preserve``, ``fresh`` or ``reset``, see `growth.optimizer.grow_optimizer`.
        hyper: ``preserve`` sets learning rate, epsilon and weight decay per tensor so that training goes on as the old model's would,
            ``keep`` leaves them as they are.
        allow_nonfinite: carry NaN and infinity over instead of refusing them.
        choices: how to grow, see `growth.choices.Choices`: ``width``, sizes by name, ``like``, ``attention``, ``symmetry``, ...

    Raises:
        UnsupportedModelError: for a foreign model, or a wrapped one (the sentence says what to do with that).
        GrowthError: in one sentence, for anything else that stands in the way.

    Example:
        >>> grown = growth.widen(model, width=2, optimizer=optimizer, noise=0.1)
        >>> model, optimizer = grown.model, grown.optimizer
    """
    model = cast(M, uncompiled(model))
    check_unwrapped(model)
    name = type(model).__name__
    stock = wrapped(model) or model
    if not isinstance(stock, PreTrainedModel) or not (isinstance(stock, OwnModel) or getattr(transformers, name, None) is type(stock)):
        raise UnsupportedModelError(
            f"{name} is neither a stock transformers model class nor a registered one. If it wraps one, widen what is inside; else "
            "declare it with growth.register."
        )
    options = chosen(choices)
    if torch.is_inference_mode_enabled():
        raise IllegalGrowthError("what is made in inference mode can never be trained. Use torch.no_grad(), or widen outside of it.")
    if optimizer is not None:
        check_optimizer(optimizer, stock, moments, hyper)
        if scheduler is not None:
            check_scheduler(scheduler, optimizer, hyper)
    elif scheduler is not None:
        raise IllegalGrowthError("a scheduler drives an optimizer. Give that too: growth.widen(model, optimizer=..., scheduler=...).")
    raw = {**stock.config.to_dict(), "architectures": [name]}
    in_memory, ties = _untied(stock)
    state = to_disk(stock, in_memory)
    own, tied = expected_tensors(raw, type(stock))
    for key, shared in ties.items():
        if key in own and key not in tied and shared not in tied:
            raise UnsupportedModelError(
                f"'{key}' is one with '{shared}' in this model, but not by its config. Give it a weight of its own, or, if that is the "
                "tie, set config.tie_word_embeddings."
            )
    plan = build_plan(raw, {key: tuple(value.shape) for key, value in state.items()}, options, declaration(raw, options))
    for key in plan.tensors:
        if key not in own:
            raise UnsupportedModelError(f"tensor '{key}' is none of a {name} of this config. Remove it, or correct the config.")
        if state[key].is_meta or (state[key].dtype not in FLOATS and not plan.tensors[key].kept):
            held = "no data (device meta)" if state[key].is_meta else f"dtype {state[key].dtype}, which cannot hold shares of a weight"
            raise CheckpointError(f"tensor '{key}' has {held}. Load the unquantised model first.")
    twin = prove_twin(plan)
    fold = Fold()
    grown: dict[str, Tensor] = {}
    for key, tensor in plan.tensors.items():
        finite = check_finite(key, state[key], allow_nonfinite or tensor.kept)
        tensor = tensor if finite else replace(tensor, symmetry=UNBROKEN)
        grown[key] = grow_tensor(state[key], tensor, seed=options.seed, fold=fold if finite else None)
        check_fold(key, fold, state[key], state[key].dtype)
    new = _rebuild(stock, plan, grown, ties)
    result = Grown(cast(M, unwrapped(new)), plan, Proof(twin, fold))
    if optimizer is None:
        return result
    trained = grow_optimizer(optimizer, stock, new, plan, moments=moments, hyper=hyper)
    driven = None if scheduler is None else repoint(scheduler, trained.optimizer, trained.groups)
    return replace(result, optimizer=trained.optimizer, scheduler=driven, uneven=trained.uneven, born=trained.born)


def check_finite(name: str, tensor: Tensor, allow_nonfinite: bool) -> bool:
    """Whether all weights are finite. Raise CheckpointError if they are not and that was not asked for."""
    finite = not tensor.numel() or all(math.isfinite(float(end)) for end in torch.aminmax(tensor))  # NaN wins both, without a temporary
    if not finite and not allow_nonfinite:
        raise CheckpointError(f"tensor '{name}' holds NaN or infinity. Repair the checkpoint, or carry them over with --allow-nonfinite.")
    return finite


def check_fold(name: str, fold: Fold, old: Tensor, dtype: torch.dtype) -> None:
    """Raise ProofError if what was read back is not what went in."""
    if not fold.ok and not bool(old.to(dtype).isfinite().all()):
        raise CheckpointError(
            f"tensor '{name}' holds values beyond the largest {dtype}, {torch.finfo(dtype).max:.3g}. Use --dtype bfloat16 or float32."
        )
    if not fold.ok:
        raise ProofError(
            f"tensor '{name}' does not fold back to its source (relative difference {fold.error:.3g}), so nothing was "
            "kept. Please report this."
        )


def _untied(model: PreTrainedModel) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The state dict with every shared parameter once, and {left-out name: name it shares with}."""
    first: dict[int, str] = {}
    state: dict[str, Tensor] = {}
    ties: dict[str, str] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) in first:
            ties[name] = first[id(value)]
        else:
            first[id(value)] = name
            state[name] = value.detach()
    return state, ties


def _rebuild(model: PreTrainedModel, plan: Plan, state: dict[str, Tensor], ties: dict[str, str]) -> PreTrainedModel:
    config = parse(plan.new_config)
    with torch.random.fork_rng(devices=[]), no_init_weights():
        new: PreTrainedModel = type(model)._from_config(
            config,
            attn_implementation=model.config._attn_implementation,
            experts_implementation=model.config._experts_implementation,
        )
    parts = dict(new.named_modules())
    both = [(module, parts[path]) for path, module in model.named_modules() if path in parts]  # a loss hung on by hand has no weights
    for module, same in both:  # a part that a constructor argument left out, such as BERT's pooler, stays out
        for child in list(same._modules):
            if getattr(module, child) is None:
                setattr(same, child, None)
    old_buffers = dict(model.named_buffers())
    for name, buffer in new.named_buffers():
        if name in old_buffers:
            buffer.data = buffer.data.to(old_buffers[name].device, old_buffers[name].dtype)
    new.load_state_dict(from_disk(new, state), strict=False, assign=True)
    for name, shared in ties.items():
        _set_parameter(new, name, new.get_parameter(shared))
    trained = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    for name, parameter in new.named_parameters():
        parameter.requires_grad_(trained.get(name, True))
    if model.can_generate():
        new.generation_config = copy.deepcopy(model.generation_config)
    if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        getattr(new, "activation_checkpointing_enable", new.gradient_checkpointing_enable)()  # renamed in transformers 5
    for module, same in both:
        same.training = module.training
        if isinstance(module, nn.Dropout):
            same.p = module.p
        for name in CHECKPOINTING:
            if name in vars(module):
                setattr(same, name, vars(module)[name])
    return new


CHECKPOINTING = ("gradient_checkpointing", "_gradient_checkpointing_func")
"""What a module holds that recomputes its activations: whether, and how."""


def _set_parameter(model: nn.Module, name: str, parameter: Any) -> None:
    owner, _, last = name.rpartition(".")
    setattr(model.get_submodule(owner), last, parameter)
