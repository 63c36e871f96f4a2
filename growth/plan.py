"""Plans: what growing a model would do, tensor by tensor, worked out from its config and tensor shapes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedConfig, PreTrainedModel

from growth import architectures, config
from growth.architecture import Architecture
from growth.axis import Map, Space
from growth.computed import not_saved
from growth.epsilon import grown_epsilons
from growth.errors import CheckpointError, IllegalGrowthError
from growth.inventory import Shapes, inventory
from growth.options import Options
from growth.role import Dimension, Gain, Keeps, Role
from growth.rules.rotary import grow_rope
from growth.sizes import Sizes

TOLERANCE = 1e-10
"""What "the same function" means in exact arithmetic. Correct and wrong growths differ by some fourteen orders of magnitude."""

_LOOKS_LIKE = "nobody declared '{}'; it looks like '{}': every parameter and config field fits, and the twin decides"


@dataclass(frozen=True, eq=False, repr=False)
class TensorPlan:
    """One tensor: ``new[j0, j1, ...] = prod(value_d[j_d]) * old[source_0[j0], source_1[j1], ...]``, plus null-space noise, and for a
    gain that the model adds a number to (`growth.role.Gain`) plus its shift."""

    name: str
    canonical: str
    shape: tuple[int, ...]
    roles: tuple[Role, ...]
    dimensions: tuple[Dimension, ...]
    noise: float = 0.0

    def __repr__(self) -> str:
        return f"TensorPlan({self.name}: {list(self.shape)} -> {list(self.new_shape)}, {'; '.join(map(str, self.roles))})"

    @property
    def new_shape(self) -> tuple[int, ...]:
        """Shape after growth."""
        return tuple(dimension.new for dimension in self.dimensions)

    @property
    def kept(self) -> bool:
        """True if the tensor stays as it is, so that it may be of any dtype (a mask, a counter)."""
        return len(self.roles) == len(self.shape) and all(isinstance(role, Keeps) for role in self.roles)

    @property
    def flipped(self) -> TensorPlan:
        """The plan of the transpose; of a row matrix, where the tensor is a vector."""
        kept = (Keeps(),) if len(self.shape) == 1 else ()
        outer = tuple(role.resolve(1, {}) for role in kept)
        dimensions = outer + tuple(reversed(self.dimensions))
        shape = (1,) * len(kept) + tuple(reversed(self.shape))
        return replace(self, shape=shape, roles=kept + tuple(reversed(self.roles)), dimensions=dimensions)

    @cached_property
    def exact(self) -> bool:
        """True if every coefficient is a power of two or zero, so that no float format rounds."""
        return not self.noise and all(
            d.shift is None and bool(np.all((np.frexp(d.value)[0] == 0.5) | (d.value == 0))) for d in self.dimensions
        )


@dataclass(frozen=True)
class Declared:
    """A declaration, not yet adapted to a config, and the ``model_type`` it was borrowed from where nobody declared the model's own."""

    base: Architecture
    looks_like: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """What growing one model does. Build it with `plan_widening`; print it, or read ``to_json()``.

    ``architecture`` is the declaration adapted to the config. ``lossy`` says that this is a rotary growth that is not exact, and that
    the caller accepted it.
    """

    declared: Declared
    architecture: Architecture
    model_class: type[PreTrainedModel]
    options: Options
    old_sizes: Mapping[str, int]
    new_sizes: Mapping[str, int]
    maps: Mapping[Space, Map]
    tensors: Mapping[str, TensorPlan]
    old_config: Mapping[str, Any]
    new_config: Mapping[str, Any]
    dtypes: Mapping[str, torch.dtype] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    lossy: bool = False

    @property
    def config_changes(self) -> dict[str, tuple[Any, Any]]:
        """Config field -> (old, new), None where absent; dotted inside a nested config."""
        return _changes(self.old_config, self.new_config)

    def parameters(self, *, new: bool) -> int:
        """Number of elements on disk, before or after."""
        return sum(int(np.prod(t.new_shape if new else t.shape)) for t in self.tensors.values())

    def bytes(self, *, new: bool) -> int:
        """Bytes on disk, before or after, at each tensor's own dtype (the config's, where only a config was given)."""
        default = getattr(torch, str(self.old_config.get("dtype") or self.old_config.get("torch_dtype") or "float32"), torch.float32)
        counted = ((self.dtypes.get(name, default), t.new_shape if new else t.shape) for name, t in self.tensors.items())
        return sum(dtype.itemsize * int(np.prod(shape)) for dtype, shape in counted)

    def spaces(self) -> list[tuple[str, int, int, str]]:
        """(space, old, new, law), for the spaces that some tensor uses."""
        used = {space for tensor in self.tensors.values() for role in tensor.roles for space in role.spaces()}
        return [(str(s), m.n, m.m, str(self.architecture.laws[s])) for s, m in self.maps.items() if s in used]

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values. With the source it holds all that is needed to grow it again."""
        return {
            "model_type": self.architecture.model_type,
            "model_class": self.model_class.__name__,
            "options": asdict(self.options),
            "sizes": {name: [self.old_sizes[name], self.new_sizes[name]] for name in self.old_sizes},
            "spaces": [dict(zip(("space", "old", "new", "law"), row, strict=True)) for row in self.spaces()],
            "config_changes": {name: list(pair) for name, pair in self.config_changes.items()},
            "bytes": [self.bytes(new=False), self.bytes(new=True)],
            "parameters": [self.parameters(new=False), self.parameters(new=True)],
            "tensors": [
                {"name": t.name, "old": list(t.shape), "new": list(t.new_shape), "roles": [str(r) for r in t.roles], "exact": t.exact}
                for t in self.tensors.values()
            ],
            "left_out": list(self.left_out),
            "notes": list(self.notes),
        }

    @property
    def choices(self) -> str:
        """The caller's choices, those that matter here, in one line."""
        options = self.options
        rotary = self.architecture.rotary and options.attention == "head-dim"
        rope = f", rope {options.rope}" if rotary else ""
        noise = f", noise {options.noise:g} (seed {options.seed})" if options.noise else ""
        return f"width {options.width}, attention {options.attention}{rope}, scaling {options.scaling}{noise}"

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {old} -> {self.new_sizes[name]}" for name, old in self.old_sizes.items() if self.new_sizes[name] != old)
        return (
            f"{self.model_class.__name__}, {self.choices}: {sizes}; "
            f"{self.parameters(new=False):,} -> {self.parameters(new=True):,} parameters"
        )


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    changes: dict[str, tuple[Any, Any]] = {}
    for name in sorted(set(old) | set(new)):
        before, after = old.get(name), new.get(name)
        if name.endswith("_config") and isinstance(before, Mapping) and isinstance(after, Mapping):
            changes |= _changes(before, after, f"{prefix}{name}.")
        elif before != after:
            changes[prefix + name] = before, after
    return changes


def build_plan(raw: Mapping[str, Any], shapes: Shapes, options: Options, declared: Declared | None = None) -> Plan:
    """The plan for a config and the shapes of its tensors, by name; by the declaration of its model_type, unless one is given.

    Raises:
        UnsupportedModelError: for a model type, config field or tensor nobody vouches for.
        IllegalGrowthError: for sizes or choices no law allows.
        CheckpointError: for a missing tensor or a wrong shape.
    """
    parsed = config.parse(raw)
    declared = declared or Declared(architectures.find(str(raw["model_type"])))
    architecture = declared.base.at(parsed)
    config.check_vouched(raw, architecture, options.vouch)
    model_class = config.model_class(raw)
    old, new = architecture.read_sizes(parsed), architecture.target_sizes(parsed, options.width, options.attention)
    maps = architecture.maps(parsed, old, new, options.scaling, options.rope)
    changes: dict[str, float] = {field: new[size] for size, field in architecture.fields().items() if new[size] != old[size]}
    notes = [] if declared.looks_like is None else [_LOOKS_LIKE.format(raw["model_type"], declared.looks_like)]
    rope, lossy = _rope(raw, parsed, architecture, old, new, options, notes)
    known, left_out, tied = inventory(raw, shapes, architecture, model_class)
    tensors = {name: _tensor(name, shapes[name], architecture, model_class, maps, options, name in tied) for name in known}
    gains = [role for tensor in tensors.values() for role in tensor.roles if isinstance(role, Gain)]
    changes |= grown_epsilons(architecture, parsed, maps, gains)
    new_config = config.edited(raw, changes, rope)
    if (read_back := architecture.read_sizes(config.parse(new_config))) != new:
        raise IllegalGrowthError(
            f"the config cannot say what the plan means: transformers reads {read_back} back, not {new}. Spell the sizes "
            "out in config.json."
        )
    if dropped := not_saved(model_class, tensors):
        notes.append(
            f"save_pretrained of {model_class.__name__} leaves out {', '.join(dropped)}, and a wider model computes others; before saving "
            "the widened model again, set model._keys_to_ignore_on_save = set()"
        )
    if options.noise == 0:
        notes.append("identical copies never separate in training; --noise 0.1 breaks the symmetry exactly")
    return Plan(
        declared,
        architecture,
        model_class,
        options,
        old_sizes=old,
        new_sizes=new,
        maps=maps,
        tensors=tensors,
        old_config=dict(raw),
        new_config=new_config,
        left_out=tuple(left_out),
        notes=tuple(notes),
        lossy=lossy,
    )


def _rope(
    raw: Mapping[str, Any],
    parsed: PreTrainedConfig,
    architecture: Architecture,
    old: Sizes,
    new: Sizes,
    options: Options,
    notes: list[str],
) -> tuple[dict[str, dict[str, Any]], bool]:
    """New rotary parameters per kind of layer, where they change, and whether this is a loss the caller accepted."""
    size = "rotary_dim" if "rotary_dim" in old else "head_dim"
    grown, lossy = {}, False
    if architecture.rotary and new[size] != old[size]:
        reach = int(getattr(parsed, "max_position_embeddings", None) or 0)
        for kind, table in config.rope_of(raw).items():
            # transformers looks for yarn's `truncate` beside the tables of the kinds of layers, not in them, and so never finds it there
            stock = {name: value for name, value in table.items() if name != "truncate" or not kind}
            rope = grow_rope(stock, old[size], new[size], options.rope, reach, options.lossy)
            if rope is not None:
                grown[kind] = rope
            elif options.rope == "pairs":
                lossy = True
                notes.append(f"rotary pairs at the stock frequencies of '{stock.get('rope_type')}' are not exact; the loss is measured")
    return grown, lossy


def _tensor(
    name: str,
    shape: Sequence[int],
    architecture: Architecture,
    model_class: type[PreTrainedModel],
    maps: Mapping[Space, Map],
    options: Options,
    tied: bool,
) -> TensorPlan:
    canonical = architecture.canonical(name)
    roles = architecture.roles(canonical, model_class.__name__)
    if len(roles) != len(shape):
        raise CheckpointError(f"tensor '{name}' has {len(shape)} dimensions, but its rule describes {len(roles)}. Check the file.")
    dimensions = tuple(role.resolve(size, maps) for role, size in zip(roles, shape, strict=True))
    for dimension, role, size in zip(dimensions, roles, shape, strict=True):
        if dimension.old != size:
            raise CheckpointError(
                f"tensor '{name}' has shape {list(shape)}, but its role '{role}' makes {size} a {dimension.old}. Check the config."
            )
    # Noise lives in the null space of reading. A matrix that also writes the same dimension elsewhere (a tied head) has none to offer.
    noisy = not tied and any(d.reads and d.new > d.old for d in dimensions)
    return TensorPlan(name, canonical, tuple(shape), roles, dimensions, options.noise if noisy else 0.0)
