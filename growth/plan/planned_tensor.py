"""How one tensor is to grow: its roles, at the sizes of the model, checked against its shape."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

from growth.algebra.axes import Space
from growth.algebra.dimensions import Dimension
from growth.algebra.maps import Map
from growth.algebra.roles import Role
from growth.architectures import Architecture
from growth.errors import CheckpointError
from growth.plan.options import Options
from growth.plan.symmetry import UNBROKEN
from growth.plan.tensor_plan import TensorPlan
from growth.plan.tied_weights import Ties


def planned_tensor(
    name: str,
    shape: Sequence[int],
    architecture: Architecture,
    roles: tuple[Role, ...],
    maps: Mapping[Space, Map],
    options: Options,
    ties: Ties,
    resolved: dict[Hashable, tuple[Dimension, ...]],
) -> TensorPlan:
    """One tensor: its roles at these sizes, checked against the shape in the file. What the roles of
    one shape come to is kept in ``resolved``: tensors that grow alike have the same dimensions."""
    canonical = architecture.canonical(name)
    if 0 in shape:
        raise CheckpointError(
            f"tensor '{name}' has shape {list(shape)}, so that it holds nothing that could grow. Check the counts in "
            "config.json, such as num_labels."
        )
    if len(roles) != len(shape):
        raise CheckpointError(
            f"tensor '{name}' has {len(shape)} dimensions, but its rule describes {len(roles)}. Check the file."
        )
    summed = ties.writers.get(name)
    kind = (roles, tuple(shape), summed)
    if kind not in resolved:
        resolved[kind] = _dimensions(roles, tuple(shape), summed, name, maps)
    dimensions = resolved[kind]
    may_differ = name not in ties.kept_equal and any(d.summed and d.grows for d in dimensions)
    breaking = options.breaking.for_hidden_states if name in ties.writers else options.breaking
    return TensorPlan(name, canonical, tuple(shape), roles, dimensions, breaking if may_differ else UNBROKEN)


def _dimensions(
    roles: tuple[Role, ...],
    shape: tuple[int, ...],
    summed: int | None,
    name: str,
    maps: Mapping[Space, Map],
) -> tuple[Dimension, ...]:
    """What roles come to at these sizes.

    Args:
        roles: one per dimension.
        shape: of the tensor.
        summed: the dimension whose copies are only ever summed by a tied matrix; None for none.
        name: of the tensor, for the message.
        maps: the map of every space.
    """
    dimensions = tuple(role.resolve(size, maps) for role, size in zip(roles, shape, strict=True))
    for dimension, role, size in zip(dimensions, roles, shape, strict=True):
        if dimension.old != size:
            raise CheckpointError(
                f"tensor '{name}' has shape {list(shape)}, but its role '{role}' makes {size} a {dimension.old}. "
                "Check the config."
            )
    # What a gain beside a tied matrix writes is only ever summed, so its copies may differ. They do by
    # shares: these coefficients are those of equal copies, which is what the optimizer goes by.
    return tuple(replace(d, summed=d.summed or axis == summed) for axis, d in enumerate(dimensions))
