"""Where the copies may differ around a matrix that plays several parts.

A matrix with one part to play reads with shares of its own (`growth.weights.symmetry_breaking`). An
embedding that is also the head must stay as it is, since what it reads with it also writes. But
what it reads passes through sums alone, ``sum(read[j] * y'[j])`` over copies, so the shares may go
into whoever writes that: a norm's gain and bias. What their copies add up to, each times its
gradient coefficient, stays. The copies of such a space differ in value and only their weighted sum
is kept: so nobody else reads it with shares of its own, which would meet these in cross terms."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from growth.algebra.axes import Axis, Space
from growth.algebra.derived_laws import Dual, Normalised, Scaled, UnitLength
from growth.algebra.laws import Law, Linear
from growth.algebra.maps import Map
from growth.algebra.roles import Reads, Role, Scale, Writes
from growth.architectures.architecture import Architecture
from growth.errors import UnsupportedModelError

Roles = tuple[Role, ...]


@dataclass(frozen=True)
class Ties:
    """What tied matrices ask for.

    Args:
        kept_equal: tensors whose copies stay equal.
        writers: tensor -> its dimension along which copies may differ although it writes.
        spaces: the spaces of which only weighted sums over copies are kept.
        notes: what the caller should know.
    """

    kept_equal: frozenset[str] = frozenset()
    writers: Mapping[str, int] = field(default_factory=dict)
    spaces: frozenset[Space] = frozenset()
    notes: tuple[str, ...] = ()


def around_ties(
    roles: Mapping[str, Roles],
    tied: Mapping[str, Collection[str]],
    architecture: Architecture,
    model_class: str,
    maps: Mapping[Space, Map],
) -> Ties:
    """What the ties of a model ask for, if copies are to differ.

    Args:
        roles: of every tensor to grow, by name.
        tied: tensor -> the canonical names of all that are one with it.
        architecture: the declaration for the config.
        model_class: the class of the model.
        maps: how every space grows.
    """
    parts = {name: {_roles(architecture, member, model_class) for member in group} for name, group in tied.items()}
    kept_equal = {name for name, played in parts.items() if len(played) > 1 or None in played}
    known = [*roles.values(), *(part for played in parts.values() for part in played if part is not None)]
    spaces: set[Space] = set()
    writers: dict[str, int] = {}
    notes = []
    for read in sorted({space for name in kept_equal for space in _read_by_one(parts[name])}, key=str):
        if not maps[read].grows:
            continue
        feeding = _feeding(read, architecture.laws)
        found = (
            {}
            if _meets_more_than_sums(feeding, known, architecture.laws)
            else _writers(feeding, roles, kept_equal, maps)
        )
        if found:
            spaces |= feeding
            writers |= found
        else:
            notes.append(
                f"the copies that the tied head reads start equal: no gain or bias writes '{read}' for it alone"
            )
    kept_equal |= {
        name for name, own in roles.items() if any(isinstance(role, Reads) and role.spaces() & spaces for role in own)
    }
    return Ties(frozenset(kept_equal), writers, frozenset(spaces), tuple(notes))


def _roles(architecture: Architecture, canonical: str, model_class: str) -> Roles | None:
    """The roles of a parameter that need not be in the file, None if no rule says them."""
    try:
        return architecture.roles(canonical, model_class)
    except UnsupportedModelError:
        return None


def _read_by_one(played: Collection[Roles | None]) -> Iterator[Space]:
    """The spaces that a matrix reads in one of its parts, along a dimension that does something
    else in another."""
    for part in played:
        for axis, role in enumerate(part or ()):
            elsewhere = {other[axis] for other in played if other is not None}
            if isinstance(role, Reads) and isinstance(role.axis, Space) and elsewhere != {role}:
                yield role.axis


def _feeding(read: Space, laws: Mapping[Space, Law]) -> frozenset[Space]:
    """A space and those that reach it through a constant of the model."""
    feeding = {read}
    while more := {space for space, law in laws.items() if isinstance(law, Scaled) and law.into in feeding} - feeding:
        feeding |= more
    return frozenset(feeding)


def _meets_more_than_sums(spaces: Collection[Space], known: Collection[Roles], laws: Mapping[Space, Law]) -> bool:
    """Whether anything but a weighted sum looks at one of these spaces: a non-linearity, a norm, a
    factor per coordinate."""
    others = (law for space, law in laws.items() if space not in spaces)
    entered: set[Axis] = {
        space for roles in known for role in roles if isinstance(role, Scale) for space in role.enters.spaces()
    }
    return (
        not all(isinstance(laws[space], (Linear, Dual, Scaled)) for space in spaces)
        or any(isinstance(laws[space], Scaled) and laws[space].into not in spaces for space in spaces)  # type: ignore[attr-defined]
        or any(isinstance(law, (Normalised, UnitLength)) and law.of in spaces for law in others)
        or bool(entered.intersection(spaces))
    )


def _writers(
    spaces: Collection[Space], roles: Mapping[str, Roles], kept_equal: Collection[str], maps: Mapping[Space, Map]
) -> dict[str, int]:
    """Tensor -> the dimension that writes one of these spaces, for those that read nothing that
    grows."""
    found: dict[str, int] = {}
    for name, own in roles.items():
        written = [
            role.axis if isinstance(role, Writes) else role.leaves if isinstance(role, Scale) else None for role in own
        ]
        reads = any(isinstance(role, Reads) and role.axis.map(maps).grows for role in own)
        if (
            name not in kept_equal
            and not reads
            and (axes := [axis for axis, space in enumerate(written) if space in spaces])
        ):
            found[name] = axes[0]
    return found
