"""Candidates: what one set of target sizes leads to, or the reason why a model cannot grow to them.

The search for target sizes asks for one candidate after another (`growth.plan.size_search`): the
laws give a map for each space, the roles accept them, the norms' epsilon and the rotary
parameters follow, and the config class reads the new config back with these very sizes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from growth.algebra.axes import Space
from growth.algebra.maps import Map
from growth.algebra.roles import Gain, Role
from growth.architectures.architecture import Architecture
from growth.architectures.sizes import Sizes
from growth.errors import IllegalShapeError, UnsupportedModelError
from growth.hf.config_json import differences, edited, is_null
from growth.hf.configs import Config
from growth.hf.rope_dialects import Ropes, grown_in_both, holds_in_4, is_for_4, rope_of
from growth.plan.norm_epsilon import grown_epsilons
from growth.plan.options import Options
from growth.rules.rotary import grow_rope

_ALONE = ("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size")
"""Sizes that no config class compares with others, so that they are not to blame if it refuses a
config."""

Roles = Collection[tuple[Role, ...]]


@dataclass(frozen=True, eq=False)
class Candidate:
    """What one set of sizes leads to.

    Args:
        maps: space -> how its coordinates grow.
        config: the new config.
        notes: what the caller should know, a sentence each.
        lossy: whether this is a rotary growth that is not exact, which the caller accepted.
    """

    maps: Mapping[Space, Map]
    config: Config
    notes: tuple[str, ...] = ()
    lossy: bool = False


def candidate(
    config: Config,
    base: Architecture,
    architecture: Architecture,
    options: Options,
    old: Sizes,
    new: Sizes,
    roles: Roles,
    settle: Callable[[dict[Space, Map]], Mapping[Space, Map]],
) -> Candidate:
    """What a growth from ``old`` to ``new`` sizes leads to.

    Args:
        config: of the model that grows.
        base: its declaration.
        architecture: the declaration adapted to ``config``.
        options: the caller's.
        old, new: size name -> value.
        roles: of every parameter of the model, each combination once.
        settle: the maps that the laws give -> those that the caller's choices make of them.

    Raises:
        IllegalShapeError: if a law or the config class refuses these sizes, but others may do.
        IllegalGrowthError: if no sizes would help.
    """
    used = {space for combination in roles for role in combination for space in role.spaces()}
    parsed = config.parsed
    maps = settle(architecture.maps(parsed, old, new, options.scaling, options.rope, used))
    for role in {role for combination in roles for role in combination}:
        role.resolve(1, maps)
    notes: list[str] = []
    changes: dict[str, float] = {field: new[size] for size, field in architecture.fields().items()}
    rope, lossy = _rope(config, architecture, old, new, options, notes)
    gains = [role for combination in roles for role in combination if isinstance(role, Gain)]
    epsilons, said = grown_epsilons(architecture, parsed, maps, gains, options.scaling)
    changes |= epsilons
    notes += said
    try:
        new_config = edited(config, changes, rope)
        read_back = architecture.read_sizes(new_config.parsed)
        null = {
            field
            for size, field in architecture.fields().items()
            if read_back[size] != new[size] and is_null(parsed, field)
        }
        null |= _beside_moved(config, new_config, changes)
        if null:
            new_config = edited(config, changes, rope, null)
            read_back = architecture.read_sizes(new_config.parsed)
        grown = base.at(new_config.parsed)
    except UnsupportedModelError as error:
        reason = str(error).removesuffix(" Check config.json.")
        raise IllegalShapeError(f"the config cannot hold {_listed(old, new)}: {reason}", _coupled(old)) from error
    if read_back != new:
        reason = f"transformers reads {_listed(old, read_back)} back"
        raise IllegalShapeError(f"the config cannot hold {_listed(old, new)}: {reason}.", _coupled(old))
    # A projection, say, between widths that differ, and none where they are equal.
    if grown.modules != architecture.modules:
        raise IllegalShapeError(
            f"with {_listed(old, new)} a {grown.model_type} has other modules. Choose other sizes.", _coupled(old)
        )
    return Candidate(maps, new_config, tuple(notes), lossy)


def _beside_moved(config: Config, grown: Config, changes: Mapping[str, Any]) -> set[str]:
    """The size fields of sections in which a factor changed that nobody changed: a class that finds the sizes of two
    sections unequal may set more of one than its size (idefics2 an epsilon), and does not where they are written."""
    before, after = (section.parsed.to_dict() for section in (config, grown))
    moved = {
        path.rpartition(".")[0]
        for path, (old, new) in differences(before, after).items()
        if path not in changes and type(old) is float and type(new) is float
    }
    return {field for field in changes if (section := field.rpartition(".")[0]) and section in moved}


def _coupled(sizes: Sizes) -> list[str]:
    """The sizes that configs derive from each other and compare."""
    return [name for name in sizes if name.rpartition(".")[2] not in _ALONE]


def _listed(old: Sizes, new: Sizes) -> str:
    return ", ".join(f"{name} {size}" for name, size in new.items() if size != old[name]) or "the old sizes"


def _rope(
    config: Config,
    architecture: Architecture,
    old: Sizes,
    new: Sizes,
    options: Options,
    notes: list[str],
) -> tuple[Ropes, bool]:
    """(kind of layer -> its new rotary parameters, for those that change; whether the growth is
    lossy, which the caller accepted). Appends to ``notes``."""
    size = "rotary_dim" if "rotary_dim" in old else "head_dim"
    if not architecture.rotary or new[size] == old[size]:
        return {}, False
    reach = int(getattr(config.parsed, "max_position_embeddings", None) or 0)

    def grown(ropes: Ropes) -> Ropes:
        found = {}
        for kind, table in ropes.items():
            # transformers looks for yarn's `truncate` beside the tables of the kinds of layers, not
            # in them, and so never finds it there
            stock = {name: value for name, value in table.items() if name != "truncate" or not kind}
            found[kind] = grow_rope(stock, old[size], new[size], options.rope, reach, options.lossy)
        return {kind: rope for kind, rope in found.items() if rope is not None}

    changed = grown_in_both(config, grown)
    if options.rope != "pairs":
        return changed, False
    inexact = [str(table.get("rope_type")) for kind, table in rope_of(config).items() if kind not in changed]
    notes += [
        f"rotary pairs at the stock frequencies of '{kind}' are not exact; how far outputs move is shown"
        for kind in inexact
    ]
    if changed:
        ignored = "" if "" in changed and (is_for_4(config) or holds_in_4(config)) else " (transformers 4 does)"
        notes.append(
            "rope pairs needs frequencies of its own, which config.json now holds as rope_type 'longrope': a runtime "
            f"that ignores them{ignored} computes other outputs without a word; rope slots needs none"
        )
    return changed, bool(inexact)
