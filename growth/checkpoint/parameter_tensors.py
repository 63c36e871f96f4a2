"""A plan by the names that a model's parameters have on disk, rather than those of the weight files.

The weight files may have older names (``bert.`` left out), or store a tied weight under its other
name. The optimizer's parameters are those of the class."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from transformers import PreTrainedModel

from growth.errors import CheckpointError
from growth.hf.configs import Config
from growth.hf.expected_tensors import expected_tensors, tied_groups
from growth.hf.tensor_names import to_disk
from growth.plan.plan import Plan


def by_parameter_names(plan: Plan, old: PreTrainedModel, new: PreTrainedModel) -> Plan:
    """The plan with its tensors under the names that the parameters of ``new`` have on disk, and
    what it reads under those of ``old``.

    Args:
        plan: by the names in the weight files.
        old, new: the model before and after growth; they may be on the meta device.

    Raises:
        CheckpointError: a parameter without a tensor in the weight files.
    """
    grown = _stored(new, plan.extended, plan, plan.tensors)
    tensors = {name: replace(plan.tensors[stored], name=name) for name, stored in grown.items()}
    if plan.extension is None:
        return replace(plan, tensors=tensors)
    extension = plan.extension
    read = _stored(old, plan.old, plan, extension.shapes)
    key = _key(plan.old, plan)
    names = {key(stored): name for name, stored in read.items()}
    parts = {
        name: replace(part, source=names[key(part.source)])
        for name, part in ((name, extension.parts[stored]) for name, stored in grown.items())
    }
    shapes = {name: extension.shapes[stored] for name, stored in read.items()}
    return replace(plan, tensors=tensors, extension=replace(extension, shapes=shapes, parts=parts))


def _key(config: Config, plan: Plan) -> Callable[[str], str]:
    """What the names of one tensor have in common: its spellings, and those of tensors tied with it."""
    canonical = plan.architecture.canonical
    groups = tied_groups(expected_tensors(config, plan.model_class)[1], canonical)
    return lambda name: min(groups.get(canonical(name), {canonical(name)}))


def _stored(model: PreTrainedModel, config: Config, plan: Plan, names: Iterable[str]) -> dict[str, str]:
    """Name on disk of each parameter of a model -> the name its tensor has in the weight files.

    Args:
        model: it.
        config: one with its ties.
        plan: of its class.
        names: those in the weight files.
    """
    canonical, key = plan.architecture.canonical, _key(config, plan)
    tied = {key(name): name for name in names}
    exactly = {canonical(name): name for name in names}
    on_disk = to_disk(model, {name: parameter.detach() for name, parameter in model.named_parameters()})
    if missing := [name for name in on_disk if key(name) not in tied]:
        raise CheckpointError(
            f"parameter '{missing[0]}' of {type(model).__name__} has no tensor in the weights. Load the checkpoint "
            "and save it once with the transformers that is installed here, or leave --optimizer out."
        )
    return {name: exactly.get(canonical(name), tied[key(name)]) for name in on_disk}
