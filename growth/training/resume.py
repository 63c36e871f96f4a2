"""Resuming after a restart: a fresh optimizer, split into groups as growth split the saved one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from growth.arguments import check_kind, check_path
from growth.errors import CheckpointError, IllegalGrowthError
from growth.hf.custom_modules import MODULE
from growth.hf.inner_names import parameters_of
from growth.hf.own_modules import in_wrapper
from growth.hf.reader import unpickle
from growth.training.lr_schedulers import check_scheduler, repoint
from growth.training.optimizer import ORIGIN, made_like
from growth.training.wrappers import check_bare, own_classes, uncompiled

Parameters = Mapping[str, nn.Parameter]


def resume(
    model: nn.Module, optimizer: Optimizer, state: Mapping[str, Any], scheduler: LRScheduler | None = None
) -> tuple[Optimizer, LRScheduler | None]:
    """Turn a script's fresh optimizer and scheduler into ones that continue from a state that was
    saved after growth.

    Growth with ``hyper="preserve"`` splits parameter groups, so
    ``optimizer.load_state_dict(state)`` fails on a fresh optimizer, with torch's "loaded state dict
    has a different number of parameter groups" (or that a group "doesn't match the size"). The
    saved groups say what they were split from; this function splits the fresh optimizer's groups in
    the same way, then loads the state. After growth with ``hyper="keep"`` the groups are whole, and
    ``load_state_dict`` works.

    Args:
        model: the grown model, loaded from where it was saved.
        optimizer: of all its parameters, made as the script made it for the small model: same
            class, same groups.
        state: the ``state_dict()`` of the optimizer that was saved. It is loaded.
        scheduler: of ``optimizer``, made as for the small model. Its state is not loaded: call
            ``load_state_dict`` on the scheduler that is returned.

    Returns:
        A new optimizer, with the state, and a new scheduler that drives it (None if none was
        given).

    Raises:
        IllegalGrowthError: the state's groups were not split by growth, or a group was added since;
            the model or the groups of the optimizer are not those that were saved.
        UnsupportedModelError: a wrapped optimizer or scheduler, or a scheduler of another
            optimizer.

    Example:
        >>> model = AutoModelForCausalLM.from_pretrained("run/wide")
        >>> saved = torch.load("run/training.pt")
        >>> optimizer = AdamW(model.parameters(), lr=1e-3)           # as for the small model
        >>> scheduler = CosineAnnealingLR(optimizer, 1000)
        >>> optimizer, scheduler = resume(model, optimizer, saved["optimizer"], scheduler)
        >>> scheduler.load_state_dict(saved["scheduler"])
    """
    check_kind("model", model, nn.Module, "the wide model")
    check_kind("optimizer", optimizer, Optimizer, "a torch.optim.Optimizer")
    check_kind("state", state, Mapping, "what optimizer.state_dict() returned")
    check_bare(optimizer, "optimizer", Optimizer)
    if scheduler is not None:
        check_scheduler(scheduler, optimizer, "keep")
    inside = uncompiled(model)
    with own_classes(inside):
        parameters = parameters_of(in_wrapper(inside) or inside)
    origins = _origins(state)
    if not any(name in parameters for origin in origins for name in origin["shapes"]):
        # A module of the caller's, read from a file of its own: it was in a wrapper when it grew.
        parameters = {f"{MODULE}.{name}": parameter for name, parameter in parameters.items()}
    _check_model(origins, parameters, type(inside).__name__)
    _check_groups(origins, parameters, optimizer)
    resumed = made_like(optimizer, _split(origins, parameters, optimizer))
    resumed.load_state_dict(dict(state))
    if scheduler is None:
        return resumed, None
    return resumed, repoint(scheduler, resumed, [(origin["group"], origin["factor"]) for origin in origins])


def parameter_groups(model: nn.Module, checkpoint: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The parameter groups of a Trainer checkpoint that grew with ``hyper="preserve"``, for Trainer's
    ``optimizer_cls_and_kwargs``.

    Trainer by itself makes two groups, with and without weight decay, and cannot load a state that has
    others.

    Args:
        model: the grown model, loaded from the checkpoint.
        checkpoint: the folder, or one that Trainer has saved since.

    Returns:
        One dictionary per group: its parameters under ``params``, and the settings it was saved with.

    Raises:
        CheckpointError: a folder without ``optimizer.pt``.
        IllegalGrowthError: groups that growth has not split; another model than was saved; a parameter that is not
            frozen and in no group, which would not be trained.

    Example:
        >>> model = AutoModelForCausalLM.from_pretrained("wide/checkpoint-500")
        >>> groups = growth.training.parameter_groups(model, "wide/checkpoint-500")
        >>> settings = {"params": groups, "lr": args.learning_rate}  # some schedules read the rate that is given
        >>> trainer = Trainer(model, args, optimizer_cls_and_kwargs=(torch.optim.AdamW, settings))
        >>> trainer.train(resume_from_checkpoint="wide/checkpoint-500")
    """
    check_kind("model", model, nn.Module, "the wide model")
    path = Path(check_path("checkpoint", checkpoint)) / "optimizer.pt"
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist. Name a folder that Trainer can resume from.")
    state = unpickle(path)
    saved = state.get("param_groups") if isinstance(state, Mapping) else None
    if not saved or not all(isinstance(group, Mapping) and group.get(ORIGIN) for group in saved):
        raise IllegalGrowthError(
            f"the groups in {path} were not split by a growth, so Trainer makes them itself. Leave "
            "optimizer_cls_and_kwargs out, or grow with hyper='preserve' (--hyper preserve)."
        )
    inside = uncompiled(model)
    parameters = parameters_of(inside)
    _check_model([group[ORIGIN] for group in saved], parameters, type(inside).__name__)
    groups = []
    for group in saved:
        held: list[Any] = [parameters[name] for name in group[ORIGIN]["shapes"]]
        if "param_names" in group:
            held = list(zip(group["param_names"], held, strict=True))
        groups.append({**{key: value for key, value in group.items() if key != "param_names"}, "params": held})
    _check_trained(saved, parameters, type(inside).__name__)
    return groups


def _origins(state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """For each saved group, what it was split from (`growth.training.optimizer.ORIGIN`). Raises
    IllegalGrowthError where that is not recorded."""
    origins: list[Mapping[str, Any] | None] = [group.get(ORIGIN) for group in state.get("param_groups", ())]
    if not any(origins):
        raise IllegalGrowthError(
            "the groups of this state were not split by a growth. Load it with optimizer.load_state_dict(state)."
        )
    known = [origin for origin in origins if origin]
    if len(known) < len(origins):
        raise IllegalGrowthError(
            f"group {origins.index(None)} of this state was added after the growth, and its parameters are not "
            "recorded. Save the optimizer itself (torch.save), or grow with hyper='keep'."
        )
    return known


def _check_model(origins: Sequence[Mapping[str, Any]], parameters: Parameters, whose: str) -> None:
    """Raise IllegalGrowthError if a parameter that was saved is missing, or has another shape."""
    for name, shape in (pair for origin in origins for pair in origin["shapes"].items()):
        found = list(parameters[name].shape) if name in parameters else None
        if found != shape:
            raise IllegalGrowthError(
                f"'{name}' had shape {shape} when the state was saved, but "
                f"{'does not exist' if found is None else f'has shape {found}'} in this {whose}. Give the model that "
                "was saved with the state."
            )


def _check_trained(saved: Sequence[Mapping[str, Any]], parameters: Parameters, whose: str) -> None:
    """Raise IllegalGrowthError if a parameter that is to be trained is in no group: no optimizer would train it."""
    grouped = {name for group in saved for name in group[ORIGIN]["shapes"]}
    left = [name for name, parameter in parameters.items() if parameter.requires_grad and name not in grouped]
    if left:
        raise IllegalGrowthError(
            f"'{left[0]}'{f' and {len(left) - 1} more parameters' if left[1:] else ''} of this {whose} would not be "
            "trained, since no saved group holds them. Freeze what was frozen then (requires_grad_(False)); to train "
            "parameters that are new, begin with a new optimizer."
        )


def _check_groups(origins: Sequence[Mapping[str, Any]], parameters: Parameters, optimizer: Optimizer) -> None:
    """Raise IllegalGrowthError if the optimizer's groups do not hold the parameters of the groups
    that the saved ones were split from."""
    held = [{id(parameter) for parameter in group["params"]} for group in optimizer.param_groups]
    for index in range(max(len(held), *(1 + origin["group"] for origin in origins))):
        wanted = {id(parameters[name]) for origin in origins if origin["group"] == index for name in origin["shapes"]}
        if held[index : index + 1] != [wanted]:
            raise IllegalGrowthError(
                f"group {index} of this optimizer does not hold the parameters that group {index} of the small "
                "model's had. Make it from this model, in the same groups."
            )


def _split(origins: Sequence[Mapping[str, Any]], parameters: Parameters, optimizer: Optimizer) -> list[dict[str, Any]]:
    """The optimizer's groups, split as the saved ones were."""
    groups = []
    for origin in origins:
        whole, names = optimizer.param_groups[origin["group"]], list(origin["shapes"])
        part = {**whole, ORIGIN: origin, "params": [parameters[name] for name in names]}
        if "param_names" in whole:
            part["param_names"] = names
        groups.append(part)
    return groups
