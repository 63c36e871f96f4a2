"""Going on after a restart: the parameter groups that a growth split, split again for a fresh
optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from growth.errors import IllegalGrowthError
from growth.hf.custom_modules import as_transformers
from growth.training.lr_schedulers import check_scheduler, repoint
from growth.training.optimizer import ORIGIN, made_like
from growth.training.wrappers import check_bare, uncompiled


def resume(
    model: nn.Module, optimizer: Optimizer, state: Mapping[str, Any], scheduler: LRScheduler | None = None
) -> tuple[Optimizer, LRScheduler | None]:
    """What a script that starts again makes of the optimizer and the scheduler it always makes, so
    that states saved after growth fit.

    ``hyper="preserve"`` splits parameter groups. Their states say how, and the given optimizer's
    groups are split likewise.

    Args:
        model: the wide one, loaded.
        optimizer: of all its parameters, in the groups that the small model's optimizer was made
            with.
        state: the ``state_dict()`` of the optimizer that was saved. It is loaded.
        scheduler: of ``optimizer``, as it was made for the small model. Load its state into what
            comes back.

    Returns:
        (optimizer, scheduler), new ones.

    Raises:
        IllegalGrowthError: for a state of an optimizer that did not grow so or got groups since,
            another model, or other groups.

    Example:
        >>> optimizer, scheduler = resume(model, AdamW(model.parameters(), lr=1e-3), saved["optimizer"])
    """
    check_bare(optimizer, "optimizer", Optimizer)
    if scheduler is not None:
        check_scheduler(scheduler, optimizer, "keep")
    inside = uncompiled(model)
    known = dict((as_transformers(inside) or inside).named_parameters())
    origins = [group.get(ORIGIN) for group in state.get("param_groups", ())]
    if not any(origins):
        raise IllegalGrowthError(
            "the groups of this state were not split by a growth. Load it with optimizer.load_state_dict(state)."
        )
    if not all(origins):
        raise IllegalGrowthError(
            f"group {origins.index(None)} of this state came after the growth, and nothing says what it holds. Save "
            "the optimizer itself "
            "(torch.save), or grow with hyper='keep'."
        )
    for name, shape in (pair for origin in origins for pair in origin["shapes"].items()):
        if name not in known or list(known[name].shape) != shape:
            found = list(known[name].shape) if name in known else "none"
            raise IllegalGrowthError(
                f"'{name}' was {shape}, but is {found} in this {type(inside).__name__}. Give what was saved."
            )
    held = [{id(parameter) for parameter in group["params"]} for group in optimizer.param_groups]
    for index in range(max(len(held), *(1 + origin["group"] for origin in origins))):
        wanted = {id(known[name]) for origin in origins if origin["group"] == index for name in origin["shapes"]}
        if held[index : index + 1] != [wanted]:
            raise IllegalGrowthError(
                f"group {index} of this optimizer holds other parameters than the small one's. Make it of this model, "
                "in the same groups."
            )
    groups = []
    for origin in origins:
        whence, names = optimizer.param_groups[origin["group"]], list(origin["shapes"])
        groups.append({**whence, ORIGIN: origin, "params": [known[name] for name in names]})
        if "param_names" in whence:
            groups[-1]["param_names"] = names
    new = made_like(optimizer, groups)
    new.load_state_dict(dict(state))
    driven = (
        None
        if scheduler is None
        else repoint(scheduler, new, [(origin["group"], origin["factor"]) for origin in origins])
    )
    return new, driven
