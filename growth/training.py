"""Growth inside a training loop: a warm-up for what is new, stages around a step function of one's own, and the threshold for clipping."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.hooks import RemovableHandle

from growth.choices import Choices, chosen
from growth.disk_names import from_disk, to_disk
from growth.errors import IllegalGrowthError
from growth.model import Grown, widen
from growth.moments import Moments, first_copies, state_plan
from growth.optimizer import ORIGIN, Hyper, made_like
from growth.own import OwnModel, wrapped
from growth.plan import TensorPlan
from growth.schedule import check_scheduler, repoint
from growth.tensor import grow_tensor
from growth.wrappers import check_bare, uncompiled


@dataclass(frozen=True)
class Warmup:
    """A warm-up under way. ``remove()`` ends it."""

    handles: tuple[RemovableHandle, ...]

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()


def fresh_warmup(grown: Grown[Any], steps: int) -> Warmup:
    """Updates of new coordinates times t / steps at the t-th step after growth, those of the old block as they are.

    New is every coordinate but the first copy of each old one, along any dimension. What has just been born so follows what is trained
    before it leads, as a warm-up of the learning rate does for a whole model (Goyal et al. 2017, arXiv 1706.02677, section 2.2); the
    old block keeps its learning rate. Keeps a copy of each grown parameter over every step, until the warm-up is over. Another growth ends
    it.

    Args:
        grown: a growth with its optimizer.
        steps: how many steps until new coordinates move at full rate.

    Raises:
        IllegalGrowthError: without an optimizer, or for a number of steps below 1.
    """
    optimizer = grown.optimizer
    if optimizer is None or steps < 1:
        raise IllegalGrowthError("a warm-up needs at least one step and the grown optimizer: growth.widen(model, optimizer=optimizer).")
    held = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    masks = {parameter: new for parameter, new in _new_coordinates(grown).items() if parameter in held}
    before: dict[Tensor, Tensor] = {}
    taken = 0

    def keep(*_: Any) -> None:
        before.update({parameter: parameter.detach().clone() for parameter in masks})

    @torch.no_grad()
    def hold_back(*_: Any) -> None:
        nonlocal taken
        taken += 1
        for parameter, new in masks.items():
            rate = torch.where(new, taken / steps, 1.0).to(parameter.dtype)
            parameter.copy_(torch.lerp(before[parameter], parameter, rate.expand_as(parameter)))
        before.clear()
        if taken >= steps:
            warmup.remove()

    warmup = Warmup((optimizer.register_step_pre_hook(keep), optimizer.register_step_post_hook(hold_back)))
    return warmup


def _new_coordinates(grown: Grown[Any]) -> dict[Tensor, Tensor]:
    """Parameter -> which of its weights are new, for those that have any."""
    stock = wrapped(grown.model) or grown.model
    masks = from_disk(stock, {name: ~_old_block(tensor) for name, tensor in grown.plan.tensors.items()})
    found = {name: parameter for name, parameter in stock.named_parameters() if name in masks}
    return {parameter: masks[name].to(parameter.device) for name, parameter in found.items() if masks[name].any()}


def _old_block(tensor: TensorPlan) -> Tensor:
    old = torch.ones(tensor.new_shape, dtype=torch.bool)
    for axis, d in enumerate(tensor.dimensions):
        old &= torch.from_numpy(first_copies(d)).reshape([-1 if i == axis else 1 for i in range(old.ndim)])
    return old


Stepped = tuple[nn.Module, Optimizer, LRScheduler | None, Any]


def staged(
    model: nn.Module,
    optimizer: Optimizer,
    step: Callable[[nn.Module, Optimizer, int], Any],
    stages: Mapping[int, Choices],
    steps: int,
    *,
    start: int = 0,
    scheduler: LRScheduler | None = None,
    moments: Moments = "preserve",
    hyper: Hyper = "preserve",
    **common: Unpack[Choices],
) -> Iterator[Stepped]:
    """Train by stages: before step t, grow by ``stages[t]``; then call ``step``. Not a trainer: the step is yours.

    Args:
        model, optimizer: to begin with.
        step: (model, optimizer, number of the step) -> anything.
        stages: step -> how to grow before it.
        steps: in all.
        start: the first step, where training goes on that was cut short; stages before it are past.
        scheduler: of the learning rate; it is advanced after every step, and re-pointed at every growth.
        moments, hyper: what becomes of the optimizer, see `growth.model.widen`.
        common: choices that all stages share.

    Yields:
        (model, optimizer, scheduler, what the step returned), after every step.

    Raises:
        IllegalGrowthError: at once, for a stage that no step comes to, choices that do not exist, or a scheduler that waits for a metric.

    Example:
        >>> for model, optimizer, scheduler, loss in staged(model, optimizer, step, {1000: {"width": 2}, 3000: {"width": 3}}, 5000): ...
    """
    if never := sorted(stages.keys() - set(range(steps))):
        raise IllegalGrowthError(f"no step comes to the stage at {never[0]}: there are {steps}, from 0 on. Use one of those.")
    if isinstance(scheduler, ReduceLROnPlateau):
        raise IllegalGrowthError("ReduceLROnPlateau steps by a metric, which stages do not know. Use growth.widen in a loop of your own.")
    for choices in stages.values():
        chosen({**common, **choices})
    shared: dict[str, Any] = {**common, "moments": moments, "hyper": hyper}

    def go(model: nn.Module, optimizer: Optimizer, scheduler: LRScheduler | None) -> Iterator[Stepped]:
        for number in range(start, steps):
            if number in stages:
                grown = widen(model, optimizer=optimizer, scheduler=scheduler, **{**shared, **stages[number]})
                model, optimizer, scheduler = grown.model, grown.optimizer or optimizer, grown.scheduler
            result = step(model, optimizer, number)
            if scheduler is not None:
                scheduler.step()
            yield model, optimizer, scheduler, result

    return go(model, optimizer, scheduler)


def resume(
    model: nn.Module, optimizer: Optimizer, state: Mapping[str, Any], scheduler: LRScheduler | None = None
) -> tuple[Optimizer, LRScheduler | None]:
    """What a script that starts again makes of the optimizer and the scheduler it always makes, so that states saved after growth fit.

    ``hyper="preserve"`` splits parameter groups. Their states say how, and the given optimizer's groups are split likewise.

    Args:
        model: the wide one, loaded.
        optimizer: of all its parameters, in the groups that the small model's optimizer was made with.
        state: the ``state_dict()`` of the optimizer that was saved. It is loaded.
        scheduler: of ``optimizer``, as it was made for the small model. Load its state into what comes back.

    Returns:
        (optimizer, scheduler), new ones.

    Raises:
        IllegalGrowthError: for a state of an optimizer that did not grow so or got groups since, another model, or other groups.

    Example:
        >>> optimizer, scheduler = resume(model, AdamW(model.parameters(), lr=1e-3), saved["optimizer"])
    """
    check_bare(optimizer, "optimizer", Optimizer)
    if scheduler is not None:
        check_scheduler(scheduler, optimizer, "keep")
    inside = uncompiled(model)
    known = dict((wrapped(inside) or inside).named_parameters())
    origins = [group.get(ORIGIN) for group in state.get("param_groups", ())]
    if not any(origins):
        raise IllegalGrowthError("the groups of this state were not split by a growth. Load it with optimizer.load_state_dict(state).")
    if not all(origins):
        raise IllegalGrowthError(
            f"group {origins.index(None)} of this state came after the growth, and nothing says what it holds. Save the optimizer itself "
            "(torch.save), or grow with hyper='keep'."
        )
    for name, shape in (pair for origin in origins for pair in origin["shapes"].items()):
        if name not in known or list(known[name].shape) != shape:
            found = list(known[name].shape) if name in known else "none"
            raise IllegalGrowthError(f"'{name}' was {shape}, but is {found} in this {type(inside).__name__}. Give what was saved.")
    held = [{id(parameter) for parameter in group["params"]} for group in optimizer.param_groups]
    for index in range(max(len(held), *(1 + origin["group"] for origin in origins))):
        wanted = {id(known[name]) for origin in origins if origin["group"] == index for name in origin["shapes"]}
        if held[index : index + 1] != [wanted]:
            raise IllegalGrowthError(
                f"group {index} of this optimizer holds other parameters than the small one's. Make it of this model, in the same groups."
            )
    groups = []
    for origin in origins:
        whence, names = optimizer.param_groups[origin["group"]], list(origin["shapes"])
        groups.append({**whence, ORIGIN: origin, "params": [known[name] for name in names]})
        if "param_names" in whence:
            groups[-1]["param_names"] = names
    new = made_like(optimizer, groups)
    new.load_state_dict(dict(state))
    driven = None if scheduler is None else repoint(scheduler, new, [(origin["group"], origin["factor"]) for origin in origins])
    return new, driven


def clip_factor(grown: Grown[Any], gradients: Mapping[str, Tensor | None]) -> float:
    """By how much the global norm of the gradients changes with the growth: multiply the threshold of clipping by it.

    A parameter's gradient is repeated with coefficients g (`growth.role`), so its square sum is that of the old one times the sum of g**2
    over copies, at each weight. What that makes of the whole depends on how the norm is shared among parameters, hence on the gradients.
    What is born silent, and what writes a space that carries its mean, receives more than the coefficients say: there it is a lower bound.
    Noise, or shares that vary, make it an estimate: copies that are read differently receive different gradients.

    Args:
        grown: the growth.
        gradients: of the old model, by parameter name: ``{name: p.grad for name, p in model.named_parameters()}``.

    Raises:
        IllegalGrowthError: where there is none, or one of another model.
    """
    stock = wrapped(grown.model) or grown.model
    given = {name.removeprefix("_orig_mod."): gradient.detach() for name, gradient in gradients.items() if gradient is not None}
    if not given:
        raise IllegalGrowthError("no gradient is there. Give those of the old model, after backward() and before zero_grad().")
    before = after = 0.0
    known = dict(stock.named_parameters())
    on_disk = given if isinstance(stock, OwnModel) or not known.keys() >= given.keys() else to_disk(stock, given)
    for name, gradient in on_disk.items():
        if name not in grown.plan.tensors or grown.plan.tensors[name].shape != tuple(gradient.shape):
            raise IllegalGrowthError(f"the gradient of '{name}', {list(gradient.shape)}, is none of the old model's. Give those it had.")
        exact = gradient.double()
        before += float(exact.square().sum())
        after += float(grow_tensor(exact, state_plan(grown.plan.tensors[name], exact, 1, "preserve", False)).square().sum())
    return math.sqrt(after / before) if before else 1.0
