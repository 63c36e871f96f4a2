"""Layers of one name and several kinds: which real layer is like which layer of the miniature.

A decoder whose last norm stands before a tied head, layers that alternate between wide and narrow heads: their
parameters have the same name in every layer, and different roles. A layer of the real model takes the roles of the
miniature's layer that fits its shapes, is of its kind in the config's lists by layer, and is the last or first as it
is.
"""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from growth.algebra.maps import Map
from growth.algebra.roles import Role
from growth.architectures.architecture import Architecture
from growth.architectures.sections import sections
from growth.architectures.sizes import value_at
from growth.errors import GrowthError
from growth.hf.custom_modules import WRAPPERS
from growth.hf.expected_tensors import class_tensors
from growth.hf.own_modules import own_class
from growth.infer.tensor_names import starred

Roles = tuple[Role, ...]


@dataclass(frozen=True)
class Kind:
    """What tells layers apart.

    Args:
        entries: what the config's lists by layer say of it.
        last, first: whether it is.
        place: its number, and how many there are.
        inside: further numbers in the name: of a layer in a sequence inside it.
    """

    entries: tuple[str, ...]
    last: bool
    first: bool
    place: tuple[int, int] = (0, 0)
    inside: tuple[int, ...] = ()


@dataclass(frozen=True)
class InEachLayer:
    """The rules of a declaration, layer by layer: its ``for_config``.

    Args:
        variants: pattern -> (kind of a layer of the miniature, roles), once per layer.
        model_class: whose tensors are looked at; a module of the caller's, which is found in its wrapper.
    """

    variants: Mapping[str, tuple[tuple[Kind, Roles], ...]]
    model_class: type[nn.Module]

    def __call__(self, architecture: Architecture, config: Any) -> Architecture:
        shapes, _ = class_tensors(copy.deepcopy(config), self._wrapper(config.model_type))
        names = {architecture.canonical(name): shape for name, shape in shapes.items()}
        sizes = architecture.read_sizes(config)
        maps = {space: Map.identity(sizes[space.size]) for space in architecture.laws}
        modules: dict[str, dict[str, Roles]] = {
            module: {suffix: roles for suffix, roles in rule.items() if f"{module}.{suffix}" not in self.variants}
            for module, rule in architecture.modules.items()
        }
        kinds = kinds_of(names, config)
        for name, shape in names.items():
            if (variants := self.variants.get(starred(name))) is None:
                continue
            fitting = [(kind, roles) for kind, roles in variants if _fits(roles, shape, maps)]
            module, _, suffix = name.rpartition(".")
            modules.setdefault(module, {})[suffix] = nearest(kinds[name], fitting or list(variants))
        return replace(architecture, modules={module: rule for module, rule in modules.items() if rule})

    def _wrapper(self, model_type: str) -> type[PreTrainedModel]:
        if issubclass(self.model_class, PreTrainedModel):
            return self.model_class
        return own_class(model_type) or WRAPPERS[model_type]


def nearest(kind: Kind, variants: list[tuple[Kind, Roles]]) -> Roles:
    """The roles of the layer that is most like one.

    Example:
        >>> from growth.algebra.roles import Keeps, Writes
        >>> from growth.architectures import RESIDUAL
        >>> first, last = Kind((), last=False, first=True), Kind((), last=True, first=False)
        >>> [str(role) for role in nearest(last, [(first, (Keeps(),)), (last, (Writes(RESIDUAL),))])]
        ['writes residual']
    """

    def alike(other: Kind) -> tuple[bool, ...]:
        return (
            other.inside == kind.inside,
            other.place == kind.place,
            other.last == kind.last,
            other.entries == kind.entries,
            other.first == kind.first,
        )

    return max(variants, key=lambda one: alike(one[0]))[1]


def kinds_of(names: Mapping[str, Any], config: Any) -> dict[str, Kind]:
    """The kind of layer that every tensor with a number in its name belongs to.

    Example:
        >>> from transformers import LlamaConfig
        >>> kinds = kinds_of({"layers.0.norm.weight": (4,), "layers.1.norm.weight": (4,)}, LlamaConfig())
        >>> kinds["layers.1.norm.weight"].last
        True
    """
    numbered = {name: found for name in names if (found := re.search(r"^(.*?)(?<![a-z])(\d+)(?=\.)", name))}
    most: dict[str, int] = defaultdict(int)
    for found in numbered.values():
        most[found[1]] = max(most[found[1]], int(found[2]))
    lists: dict[int, list[list[Any]]] = defaultdict(list)
    for section in sections(config):
        for _, value in sorted(value_at(config, section).to_dict().items()):
            if isinstance(value, list) and value and not isinstance(value[0], float):
                lists[len(value)].append(value)
    kinds = {}
    for name in names:
        if name not in numbered:
            kinds[name] = Kind((), False, False)
            continue
        found = numbered[name]
        number, count = int(found[2]), most[found[1]] + 1
        entries = tuple(str(value[number]) for value in lists[count])
        inside = tuple(int(part) for part in name[found.end() :].split(".") if part.isdigit())
        kinds[name] = Kind(entries, number == count - 1, number == 0, (number, count), inside)
    return kinds


def _fits(roles: Roles, shape: tuple[int, ...], maps: Mapping[Any, Map]) -> bool:
    try:
        return len(roles) == len(shape) and all(
            role.resolve(size, maps).old == size for role, size in zip(roles, shape, strict=True)
        )
    except (GrowthError, ValueError):
        return False
