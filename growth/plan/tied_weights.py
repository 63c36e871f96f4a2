"""Breaking the symmetry around tied weights.

Breaking symmetry splits a weight unevenly between the copies of its input. A tied embedding cannot
be split: the same matrix also writes the residual stream, so its copies must stay equal. The final
norm's gain and bias are split instead::

    token ids --- E ---> residual --- layers ---> norm, gain g ---> final --- E ---> logits
              writes it                            copies of g               reads it
           (copies equal)                            differ               (copies equal)

The head only sees the read-weighted sum over copies, ``sum_j read[j] * y'[j]``. With two copies
and read = 1, a gain g becomes s1 g and s2 g with s1 + s2 = 1, and every logit stays. No other layer
may read that space with splits of its own: the products of the two splits, ``sum_j s[j] * r[j]``,
would not add up to 1.

What leaves that norm is the hidden state that people use as an embedding, so the shares s depend on
the copy and not on the coordinate: the hidden state keeps its direction (`growth.algebra.shares`).
Noise would turn it. The shares are part of the space's map (``write[j] = s[j] / read[j]``), by which
the twin compares hidden states one coordinate at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from growth.algebra.axes import Axis, Space
from growth.algebra.derived_laws import Dual, Normalised, Scaled, UnitLength
from growth.algebra.dimensions import Dimension
from growth.algebra.laws import Law, Linear
from growth.algebra.maps import Map
from growth.algebra.roles import Reads, Role, Scale, Writes
from growth.algebra.shares import split_shares
from growth.architectures.architecture import Architecture
from growth.plan.symmetry import Symmetry

Roles = tuple[Role, ...]


@dataclass(frozen=True)
class Ties:
    """What tied matrices ask for.

    Args:
        kept_equal: tensors whose copies stay equal.
        writers: tensor -> its dimension along which copies may differ although it writes there.
        maps: how the spaces grow that those tensors write, with the shares of the copies.
        notes: what the caller should know.
    """

    kept_equal: frozenset[str] = frozenset()
    writers: Mapping[str, int] = field(default_factory=dict)
    maps: Mapping[Space, Map] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def around_ties(
    roles: Mapping[str, Roles],
    tied: Mapping[str, Collection[str]],
    architecture: Architecture,
    model_class: str,
    maps: Mapping[Space, Map],
    symmetry: Symmetry,
) -> Ties:
    """What the ties of a model ask for, if copies are to differ.

    Args:
        roles: tensor that grows -> its roles, one per dimension.
        tied: tensor -> the canonical names of all parameters that are one with it.
        architecture: the declaration for the config.
        model_class: the class of the model.
        maps: how every space grows, with equal copies.
        symmetry: how copies are to differ, `Symmetry.for_hidden_states`.

    Example:
        A Llama with a tied head. The copies of the embedding are kept equal, those of the final
        norm's gain differ along its one dimension, a third in the first copy and two in the second:

        >>> from growth import architectures
        >>> llama = architectures.find("llama")
        >>> names = ("embed_tokens.weight", "norm.weight")
        >>> roles = {name: llama.roles(name, "LlamaForCausalLM") for name in names}
        >>> tied = {"embed_tokens.weight": {"embed_tokens.weight", "lm_head.weight"}}
        >>> twice = dict.fromkeys(llama.laws, Map.repeat(4, 8).dual)
        >>> shares = Symmetry.parse("split:1/2:varied").for_hidden_states
        >>> ties = around_ties(roles, tied, llama, "LlamaForCausalLM", twice, shares)
        >>> ties.kept_equal, ties.writers
        (frozenset({'embed_tokens.weight'}), {'norm.weight': 0})
        >>> {str(space): grown.write.round(3).tolist() for space, grown in ties.maps.items()}
        {'final': [0.333, 0.333, 0.333, 0.333, 0.667, 0.667, 0.667, 0.667]}
    """
    uses = _uses(tied, architecture, model_class)
    # Several uses, or one that is not declared.
    kept_equal = {name for name, used_as in uses.items() if len(used_as) > 1 or None in used_as}
    all_roles = [*roles.values(), *(use for used_as in uses.values() for use in used_as if use is not None)]
    spaces: dict[Space, Map] = {}
    writers: dict[str, int] = {}
    notes = []
    for read in sorted({space for name in kept_equal for space in _read_in_one_use(uses[name])}, key=str):
        if (grown := maps.get(read)) is None or not grown.grows:  # nothing writes it: the twin says so
            continue
        feeding = _feeding(read, architecture.laws)
        found: dict[str, int] = {}
        if _only_summed(feeding, all_roles, architecture.laws):
            found = _writers(feeding, roles, kept_equal, maps)
        if not found:
            why = f"no gain or bias writes '{read}' for it alone"
        elif _fewest_copies(grown) < 2:
            why = "some coordinates have one copy, and beside it uneven shares would turn the last hidden state"
        else:
            spaces |= {space: _with_shares(maps[space], symmetry) for space in feeding}
            writers |= found
            continue
        notes.append(f"the copies that the tied head reads start equal: {why}")
    readers = {
        name
        for name, own in roles.items()
        if any(isinstance(role, Reads) and role.spaces() & spaces.keys() for role in own)
    }
    return Ties(frozenset(kept_equal | readers), writers, spaces, tuple(notes))


def _fewest_copies(grown: Map) -> int:
    return int(np.bincount(grown.source, grown.write * grown.read != 0, grown.n).min())


def _with_shares(grown: Map, symmetry: Symmetry) -> Map:
    """The map with another share for each copy: ``write[j] = share[j] / read[j]``."""
    dimension = Dimension(grown.n, grown.source, grown.write, grown.read, summed=True, mean=grown.mean)
    shares = split_shares(dimension, *symmetry.shares, symmetry.level)
    write = np.divide(shares, grown.read, out=grown.write.copy(), where=dimension.determined)
    return Map(grown.n, grown.source, write, grown.read, grown.mean)


def read_by_ties(
    tied: Mapping[str, Collection[str]], architecture: Architecture, model_class: str
) -> frozenset[Space]:
    """The spaces that a tied matrix reads in one use, while it has another role in another: what a
    tied head reads. Arguments as for `around_ties`."""
    uses = _uses(tied, architecture, model_class)
    return frozenset(space for used_as in uses.values() for space in _read_in_one_use(used_as))


def _uses(
    tied: Mapping[str, Collection[str]], architecture: Architecture, model_class: str
) -> dict[str, set[Roles | None]]:
    """Tied tensor -> the roles it has under its names; None for a name that nobody declared."""
    return {
        name: {architecture.declared_roles(member, model_class) for member in group} for name, group in tied.items()
    }


def _read_in_one_use(uses: Collection[Roles | None]) -> Iterator[Space]:
    """The spaces that a matrix reads in one use, along a dimension that has another role in another
    use: the head reads ``final`` where the embedding writes ``residual``."""
    for use in uses:
        for axis, role in enumerate(use or ()):
            in_each_use = {other[axis] for other in uses if other is not None}
            if isinstance(role, Reads) and isinstance(role.axis, Space) and in_each_use != {role}:
                yield role.axis


def _feeding(read: Space, laws: Mapping[Space, Law]) -> frozenset[Space]:
    """A space, and those that become it when the model multiplies them by a constant (T5 divides
    what its head reads by sqrt(d_model))."""
    feeding = {read}
    while more := {space for space, law in laws.items() if isinstance(law, Scaled) and law.into in feeding} - feeding:
        feeding |= more
    return frozenset(feeding)


def _only_summed(spaces: Collection[Space], all_roles: Collection[Roles], laws: Mapping[Space, Law]) -> bool:
    """Whether nothing but weighted sums over copies looks at these spaces, so that their copies may
    differ: no non-linearity, no norm, no factor per coordinate, and no constant that leads out of
    them."""
    touched_by_linear_maps = all(isinstance(laws[space], (Linear, Dual, Scaled)) for space in spaces)
    lead_elsewhere = any(isinstance(law := laws[space], Scaled) and law.into not in spaces for space in spaces)
    normed = any(
        isinstance(law, (Normalised, UnitLength)) and law.of in spaces
        for space, law in laws.items()
        if space not in spaces
    )
    scaled: set[Axis] = {
        space for own in all_roles for role in own if isinstance(role, Scale) for space in role.enters.spaces()
    }
    return touched_by_linear_maps and not (lead_elsewhere or normed or scaled.intersection(spaces))


def _writers(
    spaces: Collection[Space], roles: Mapping[str, Roles], kept_equal: Collection[str], maps: Mapping[Space, Map]
) -> dict[str, int]:
    """Tensor -> the dimension along which it writes one of these spaces: gains and biases. Empty if
    something else writes them as well: a matrix that reads what grows is split along what it reads,
    and tied copies stay equal."""
    found: dict[str, int] = {}
    for name, own in roles.items():
        axes = [axis for axis, role in enumerate(own) if _written(role) in spaces]
        if axes and (name in kept_equal or any(isinstance(r, Reads) and r.axis.map(maps).grows for r in own)):
            return {}
        found |= {name: axes[0]} if axes else {}
    return found


def _written(role: Role) -> Axis | None:
    """The axis that a role writes, None if it writes none."""
    if isinstance(role, Writes):
        return role.axis
    return role.leaves if isinstance(role, Scale) else None
