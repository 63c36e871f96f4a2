"""Which parameter has which number in ``optimizer.pt``, before and after growth.

The file numbers parameters in the order in which the optimizer got them. Trainer gives it first all
parameters with weight decay, then all others, each in the order of ``named_parameters()`` and
without frozen ones. A wider model has the same parameters in the same order. A model with more
layers, or with a head of its own, has more, and they stand among the others:

    weight  0 layers.0.up   1 layers.1.up                     bias  2 layers.0.up   3 layers.1.up
    weight  0 layers.0.up   1 layers.1.up   2 layers.2.up     bias  3 layers.0.up   4 layers.1.up  ...
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from growth.checkpoint.optimizer_file import COUNTERS, OPTIMIZER, REMEDY, writer_of
from growth.errors import CheckpointError, UnsupportedModelError
from growth.plan.plan import Plan
from growth.training.optimizer import ORIGIN
from growth.training.parameter_sources import parameter_sources


@dataclass(frozen=True)
class Numbers:
    """The parameters in ``optimizer.pt``, before and after growth.

    Args:
        old: number -> name in memory, in the source's file.
        new: likewise, in the grown file.
        groups: the numbers in each parameter group of the grown file.
        sources: name of a grown parameter -> name of the one it grew, or was copied, from.
        added: names of parameters of new layers, which have no state yet.
    """

    old: Mapping[int, str]
    new: Mapping[int, str]
    groups: Sequence[Sequence[int]]
    sources: Mapping[str, str]
    added: Collection[str]

    @property
    def held(self) -> list[list[str]]:
        """The names of the parameters in each group of the grown file."""
        return [[self.new[number] for number in group] for group in self.groups]


def numbers_of(loaded: Mapping[str, Any], old: PreTrainedModel, new: PreTrainedModel, plan: Plan) -> Numbers:
    """The numbers of all parameters, in the file and in the grown one.

    Args:
        loaded: the content of the file (`growth.checkpoint.optimizer_file.read_optimizer`).
        old, new: the model before and after growth; they may be on the meta device.
        plan: how it grew.

    Raises:
        CheckpointError: numbers, names or shapes that do not fit the model.
        UnsupportedModelError: a grown model whose parameters stand in an order that does not follow
            from the file.
    """
    names, sources = parameter_names(loaded, old), parameter_sources(old, new, plan)
    added = {name for name in sources if plan.extension is not None and plan.extension.adds(name)}
    held = [[names[number] for number in group["params"]] for group in loaded["param_groups"]]
    if is_named(loaded):
        grown = [[name for name, source in sources.items() if source in group] for group in map(set, held)]
        if len(sources) == len({*sources.values()}):  # the same parameters, in whatever order they are
            grown = held
    else:
        grown = trainer_order(new)
    if [list(dict.fromkeys(sources[name] for name in group if name not in added)) for group in grown] != held:
        raise UnsupportedModelError(
            f"the parameters of the grown {type(new).__name__} would stand in {OPTIMIZER} in an order that does not "
            "follow from the one they have there now. Leave --optimizer out, or grow the model and its optimizer in "
            "memory: growth.widen(model, optimizer=...)."
        )
    ordered = list(chain(*grown))
    numbered = {name: number for number, name in enumerate(ordered)}
    return Numbers(
        names, dict(enumerate(ordered)), [[numbered[name] for name in group] for group in grown], sources, added
    )


def trainer_order(model: PreTrainedModel) -> list[list[str]]:
    """Parameter names in the two groups that Trainer makes: with weight decay, and without.

    Example:
        >>> trainer_order(GPT2LMHeadModel(config))[1][:2]
        ['transformer.h.0.ln_1.weight', 'transformer.h.0.ln_1.bias']
    """
    from transformers.trainer import Trainer  # takes seconds to import

    decayed = set(Trainer.get_decay_parameter_names(None, model))  # type: ignore[arg-type]  # a method that uses the model only
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [[name for name in trained if name in decayed], [name for name in trained if name not in decayed]]


def is_named(loaded: Mapping[str, Any]) -> bool:
    """Whether the file holds the names of its parameters: that of an optimizer which was made from
    ``named_parameters()``, with torch 2.6 or later, or whose groups growth has split."""
    return all(_names_in(group) is not None for group in loaded["param_groups"])


def _names_in(group: Mapping[str, Any]) -> list[str] | None:
    """The names of a group's parameters, in their order, if it holds them."""
    names, origin = group.get("param_names"), group.get(ORIGIN)
    if names is None and isinstance(origin, Mapping) and isinstance(origin.get("shapes"), Mapping):
        names = list(origin["shapes"])
    return list(map(str, names)) if isinstance(names, list) else None


def parameter_names(loaded: Mapping[str, Any], model: PreTrainedModel) -> dict[int, str]:
    """Parameter number in the file -> parameter name in ``model``.

    By the names in the file, if it has them (``param_names``), otherwise by Trainer's order.

    Args:
        loaded: the content of the file (`read_optimizer`).
        model: of the class that was trained; it may be on the meta device.

    Raises:
        CheckpointError: numbers, names or shapes that do not fit the model.
    """
    groups, whose = loaded["param_groups"], type(model).__name__
    if is_named(loaded):
        ordered = [_names_in(group) or [] for group in groups]
        if unknown := sorted({*chain(*ordered)} - {name for name, _ in model.named_parameters()}):
            raise CheckpointError(
                f"{OPTIMIZER} names a parameter '{unknown[0]}', which {whose} does not have. {REMEDY}"
            )
    else:
        ordered = trainer_order(model)
    if len(groups) != len(ordered):
        raise CheckpointError(
            f"{OPTIMIZER} has {len(groups)} parameter groups where Trainer makes {len(ordered)}, so it is unknown "
            f"which parameter is which. {REMEDY}"
        )
    names: dict[int, str] = {}
    for place, (group, given) in enumerate(zip(groups, ordered, strict=True)):
        if len(group["params"]) != len(given):
            raise CheckpointError(
                f"parameter group {place} in {OPTIMIZER} has {len(group['params'])} parameters where Trainer gives it "
                f"{len(given)} of {whose}'s (without frozen ones), so it is unknown which is which. {REMEDY}"
            )
        names |= dict(zip(group["params"], given, strict=True))
    if writer_of(loaded)[0] is None:  # whose states may have other shapes than their parameters
        return names
    for number, name in names.items():
        shape = tuple(model.get_parameter(name).shape)
        for key, value in loaded["state"].get(number, {}).items():
            if key not in COUNTERS and isinstance(value, Tensor) and tuple(value.shape) != shape:
                raise CheckpointError(
                    f"state '{key}' of parameter {number} in {OPTIMIZER} has shape {list(value.shape)}, but by "
                    f"Trainer's order that is '{name}' of shape {list(shape)}. {REMEDY}"
                )
    return names
