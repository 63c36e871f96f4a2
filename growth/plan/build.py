"""Building a plan: config and tensor shapes in, every tensor's roles, dimensions and new shape
out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from growth import architectures
from growth.algebra.axes import Space
from growth.algebra.maps import Map
from growth.algebra.roles import Role
from growth.architectures.architecture import Architecture
from growth.architectures.sizes import Sizes
from growth.errors import CheckpointError
from growth.hf.config_fields import check_vouched
from growth.hf.config_json import is_written
from growth.hf.configs import parse
from growth.hf.expected_tensors import Shapes, expected_tensors, inventory, not_saved
from growth.hf.model_classes import class_of
from growth.plan import dead_units as dead
from growth.plan.candidate import Candidate, candidate
from growth.plan.options import Options
from growth.plan.plan import Declared, Plan, TensorPlan
from growth.plan.symmetry import UNBROKEN
from growth.plan.target_sizes import choose, sizes_in_ratio
from growth.plan.tied_weights import Ties, around_ties

_LOOKS_LIKE = "nobody declared '{}'; it looks like '{}': every parameter and config field fits, and the twin decides"


def build_plan(
    raw: Mapping[str, Any],
    shapes: Shapes,
    options: Options,
    declared: Declared | None = None,
    in_ratio_of: tuple[Sizes, Sizes] | None = None,
) -> Plan:
    """The plan for a config and the shapes of its tensors, by name; by the declaration of its
    model_type, unless one is given.

    Args:
        raw: the config.
        shapes: of its tensors, by name.
        options: the caller's.
        declared: the declaration.
        in_ratio_of: old and new sizes of a model that this one is a miniature of: it takes their shape,
            not that of the options.

    Raises:
        UnsupportedModelError: for a model type, config field or tensor nobody vouches for.
        IllegalGrowthError: for sizes or choices no law allows.
        CheckpointError: for a missing tensor or a wrong shape.
    """
    parsed = parse(raw)
    declared = declared or Declared(architectures.find(str(raw["model_type"])))
    architecture = declared.base.at(parsed)
    check_vouched(raw, architecture, options.vouch)
    model_class = class_of(raw)
    old = architecture.read_sizes(parsed)
    known, left_out, tied = inventory(raw, shapes, architecture, model_class)
    roles = {name: architecture.roles(architecture.canonical(name), model_class.__name__) for name in known}

    def drafted(new: Sizes) -> Candidate:
        return candidate(raw, parsed, declared.base, architecture, options, old, new, set(roles.values()))

    spelled = frozenset(name for name, field in architecture.fields().items() if is_written(raw, field))
    if in_ratio_of is None:
        shape, drawn = choose(architecture.sizes, parsed, old, options, spelled, drafted)
    else:
        shape, drawn = sizes_in_ratio(architecture.sizes, parsed, old, in_ratio_of, drafted)
    ties = (
        around_ties(roles, tied, architecture, model_class.__name__, drawn.maps) if options.breaking.breaks else Ties()
    )
    tensors = {
        name: _tensor(name, shapes[name], architecture, roles[name], drawn.maps, options, ties) for name in known
    }
    notes = [] if declared.looks_like is None else [_LOOKS_LIKE.format(raw["model_type"], declared.looks_like)]
    notes += [*drawn.notes, *ties.notes, *dead.notes(drawn.maps, architecture.laws, set(roles.values()))]
    if dropped := not_saved(model_class, tensors):
        notes.append(
            f"save_pretrained of {model_class.__name__} leaves out {', '.join(dropped)}, and a wider model computes "
            "others; before saving "
            "the widened model again, set model._keys_to_ignore_on_save = set()"
        )
    if not options.breaking.breaks:
        notes.append("identical copies never separate in training; --symmetry noise:0.1 breaks the symmetry exactly")
    return Plan(
        declared,
        architecture,
        model_class,
        options,
        old_sizes=old,
        new_sizes=shape.sizes,
        why=shape.why,
        maps=drawn.maps,
        tensors=tensors,
        old_config=dict(raw),
        new_config=drawn.config,
        left_out=tuple(left_out),
        notes=tuple(notes),
        lossy=drawn.lossy,
        summed=ties.spaces,
    )


def plan_config(raw: Mapping[str, Any], options: Options, declared: Declared | None = None) -> Plan:
    """The plan for a config alone: its tensors are those of the class it names. Raises what
    `build_plan` raises."""
    shapes, ties = expected_tensors(raw, class_of(raw))
    return build_plan(raw, {name: shape for name, shape in shapes.items() if name not in ties}, options, declared)


def _tensor(
    name: str,
    shape: Sequence[int],
    architecture: Architecture,
    roles: tuple[Role, ...],
    maps: Mapping[Space, Map],
    options: Options,
    ties: Ties,
) -> TensorPlan:
    canonical = architecture.canonical(name)
    if len(roles) != len(shape):
        raise CheckpointError(
            f"tensor '{name}' has {len(shape)} dimensions, but its rule describes {len(roles)}. Check the file."
        )
    dimensions = tuple(role.resolve(size, maps) for role, size in zip(roles, shape, strict=True))
    for dimension, role, size in zip(dimensions, roles, shape, strict=True):
        if dimension.old != size:
            raise CheckpointError(
                f"tensor '{name}' has shape {list(shape)}, but its role '{role}' makes {size} a {dimension.old}. "
                "Check the config."
            )
    dimensions = tuple(
        replace(d, summed=d.summed or axis == ties.writers.get(name)) for axis, d in enumerate(dimensions)
    )
    free = name not in ties.kept_equal and any(d.summed and d.grows for d in dimensions)
    return TensorPlan(name, canonical, tuple(shape), roles, dimensions, options.breaking if free else UNBROKEN)
