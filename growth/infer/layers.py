"""Which layers a miniature has: one of every kind that the user's pattern of layers has.

A kind is what tells one layer from another: its entries in lists with one for each layer, whether
lists of layer numbers name it, on which side of a bound it stands (the first ones are dense, the
last ones share their keys), and what ``per_layer_config`` says of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LAYER_COUNT = re.compile(
    r"^(num_|n_)?(hidden_)?layers?$|^depth$|^num_blocks$|^(\w+_)?(encoder|decoder|transformer|conf_num_hidden)_layers$"
    r"|^(\w+_)?num_hidden_layers$|^num_layers_per_stack$|^num_global_layers$|^resampler_depth$|^num_res_blocks$"
    r"|^aligner_num_add_layers$"
)
_NO_COUNT = re.compile(r"sparse|shared|mtp|nextn|dense|window|residual|lstm")
FIRST = ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index")
LAST = ("num_kv_shared_layers",)
_PERIODS = re.compile(r"(_period|_interval|_sparse_step|_every_n_layers|sliding_window_pattern|layers_per_\w*block)$")
_OUTPUTS = re.compile(r"visual_indexes$|layers_indices$")
_SOURCES = re.compile(r"source_layers$")
FEWEST, MOST, PERIOD, TWICE = 2, 6, 4, 3


def layer_counts(fields: Mapping[str, Any]) -> dict[str, int]:
    """The fields of one section that count its layers.

    Example:
        >>> layer_counts({"encoder_layers": 12, "num_dense_layers": 1})
        {'encoder_layers': 12}
    """
    return {
        name: value
        for name, value in fields.items()
        if type(value) is int and value > 0 and LAYER_COUNT.search(name) and not _NO_COUNT.search(name)
    }


@dataclass
class SmallStack:
    """The layers of one section of a miniature.

    Args:
        fields: field -> value, as the miniature has it.
        picked: which of the user's layers it has.
        total: how many the user's has.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    picked: list[int] = field(default_factory=list)
    total: int = 0

    def number(self, layer: int) -> int:
        """The number in the miniature of one of the user's layers, or of the nearest before it.

        Example:
            >>> SmallStack({}, [0, 7, 15], 16).number(9)
            1
        """
        return max((place for place, kept in enumerate(self.picked) if kept <= layer), default=0)


def small_layers(fields: Mapping[str, Any], repeat: int = 1) -> SmallStack:
    """Few layers of one section, and every kind of them.

    Args:
        fields: of the section.
        repeat: how many layers of each kind, as far as there are.

    Example:
        >>> small_layers({"num_hidden_layers": 6, "layer_types": ["a", "a", "b"] * 2, "num_dense_layers": 1}).fields
        {'num_hidden_layers': 3, 'layer_types': ['a', 'a', 'b'], 'num_dense_layers': 1}
        >>> small_layers({"depth": 32, "fullatt_block_indexes": [7, 15, 23, 31]}).fields
        {'depth': 3, 'fullatt_block_indexes': [2]}
    """
    counts = layer_counts(fields)
    if not counts:
        return _by_list(fields, repeat)
    total = max(counts.values())
    lists = _Lists.of(fields, total)
    periods = {name: value for name, value in fields.items() if type(value) is int and _PERIODS.search(name)}
    least = PERIOD if any(value > 1 for value in periods.values()) and not lists.listed else FEWEST
    stack = SmallStack({}, _picked(lists.kinds(total), least, repeat, lists.outputs()), total)
    small, picked = stack.fields, stack.picked
    small |= {name: len(picked) if value == total else min(value, FEWEST) for name, value in counts.items()}
    small |= lists.at(stack)
    if (inner := fields.get("num_layers_per_stack")) and total % inner == 0:  # the others count passes through it
        small |= {"num_layers_per_stack": FEWEST, "num_hidden_layers": FEWEST * (total // inner)}
    small |= _stages(fields, stack)
    for name, value in periods.items():
        small[name] = min(value, PERIOD if "block" not in name else FEWEST)
        offset = name.removesuffix("period") + "offset"
        if name.endswith("period") and type(fields.get(offset)) is int:
            small[offset] = fields[offset] % small[name]
    if type(end := fields.get("moe_layer_end_index")) is int:
        small["moe_layer_end_index"] = min(end, len(picked) - 1)
    if type(window := fields.get("max_window_layers")) is int:
        small["max_window_layers"] = min(window, len(picked) if window >= total else len(picked) - 1)
    return stack


@dataclass(frozen=True)
class _Lists:
    """What a section says of its layers one by one.

    Args:
        listed: lists with an entry for each.
        sources: lists with, for each, the number of the layer that it takes something from.
        numbers: lists of numbers of layers.
        firsts, lasts: counts of layers at the start and at the end.
        pattern: name -> kinds of layers that are repeated until there are enough.
        own: number of a layer -> what it has otherwise than the others.
    """

    listed: Mapping[str, Any]
    sources: Mapping[str, Any]
    numbers: Mapping[str, Any]
    firsts: Mapping[str, int]
    lasts: Mapping[str, int]
    pattern: Mapping[str, Any]
    own: Mapping[int, Any]

    @classmethod
    def of(cls, fields: Mapping[str, Any], total: int) -> _Lists:
        """Those of a section with so many layers."""
        sources = {n: v for n, v in fields.items() if _SOURCES.search(n) and _per_layer(n, v, total)}
        numbers = {
            name: value for name, value in fields.items() if name not in sources and _layer_numbers(name, value, total)
        }
        return cls(
            {n: v for n, v in fields.items() if n not in (*numbers, *sources) and _per_layer(n, v, total)},
            sources,
            numbers,
            {name: fields[name] for name in FIRST if type(fields.get(name)) is int and 0 <= fields[name] <= total},
            {name: fields[name] for name in LAST if type(fields.get(name)) is int and 0 <= fields[name] <= total},
            dict(next(([(n, v)] for n, v in fields.items() if _is_pattern(n, v, total)), [])),
            {int(layer): said for layer, said in (fields.get("per_layer_config") or {}).items()},
        )

    def kinds(self, total: int) -> list[tuple[Any, ...]]:
        """The kind of each layer."""
        return [
            (
                *(repr(value[layer]) for value in self.listed.values()),
                *(value[layer] == layer for value in self.sources.values()),
                *(layer in value for value in self.numbers.values()),
                *(layer < value for value in self.firsts.values()),
                *(layer >= total - value for value in self.lasts.values()),
                repr(self.own.get(layer)),
                *(value[layer % len(value)] for value in self.pattern.values()),
            )
            for layer in range(total)
        ]

    def outputs(self) -> list[int]:
        """Layers all of which stay: their outputs are joined, or each has a part of its own."""
        return [layer for name, value in self.numbers.items() if _OUTPUTS.search(name) for layer in value]

    def at(self, stack: SmallStack) -> dict[str, Any]:
        """The same for the layers of a miniature."""
        picked = stack.picked
        small: dict[str, Any] = {n: [v[layer % len(v)] for layer in picked] for n, v in self.pattern.items()}
        small |= {name: [value[layer] for layer in picked] for name, value in self.listed.items()}
        small |= {name: [stack.number(value[layer]) for layer in picked] for name, value in self.sources.items()}
        places = {layer: place for place, layer in enumerate(picked)}
        small |= {name: [places[n] for n in sorted(value) if n in places] for name, value in self.numbers.items()}
        small |= {name: sum(layer < value for layer in picked) for name, value in self.firsts.items()}
        small |= {name: sum(layer >= stack.total - value for layer in picked) for name, value in self.lasts.items()}
        if self.own:
            own = {str(place): self.own[layer] for place, layer in enumerate(picked) if layer in self.own}
            small["per_layer_config"] = own
        return small


def _stages(fields: Mapping[str, Any], stack: SmallStack) -> dict[str, Any]:
    """Names of the layers that a backbone returns."""
    if not isinstance(fields.get("stage_names"), list) or len(fields["stage_names"]) != stack.total + 1:
        return {}
    last = len(stack.picked)
    names = {
        "stage_names": fields["stage_names"][: last + 1],
        "out_features": [f"stage{last}"],
        "out_indices": [last],
    }
    return {name: value for name, value in names.items() if fields.get(name) is not None}


def _by_list(fields: Mapping[str, Any], repeat: int) -> SmallStack:
    """The same for a section that counts its layers by the length of its pattern."""
    names = ("layers_block_type", "layer_types", *(name for name in fields if name.endswith("block_types")))
    name = next((name for name in names if isinstance(fields.get(name), list) and fields[name]), None)
    if name is None:
        return SmallStack()
    picked = _picked([(entry,) for entry in fields[name]], FEWEST, repeat, [])
    return SmallStack({name: [fields[name][layer] for layer in picked]}, picked, len(fields[name]))


def _per_layer(name: str, value: Any, total: int) -> bool:
    """Whether a field has an entry for each layer. Of a single layer, a list of one kind is one."""
    return isinstance(value, (list, tuple)) and len(value) == total and (total > 1 or name.endswith("layer_types"))


def _is_pattern(name: str, value: Any, total: int) -> bool:
    """Whether a field lists kinds of layers that are repeated until there are enough."""
    return (
        isinstance(value, list)
        and 1 < len(value) < total
        and bool(re.search(r"types?$|pattern$", name))
        and all(isinstance(entry, str) for entry in value)
    )


def _layer_numbers(name: str, value: Any, total: int) -> bool:
    """Whether a field lists numbers of layers."""
    return (
        isinstance(value, list)
        and bool(re.search(r"layer|idx|ids$|indexes|indices", name))
        and all(type(entry) is int and 0 <= entry < total for entry in value)
        and len(set(value)) == len(value)
        and "token" not in name
    )


def _picked(kinds: list[tuple[Any, ...]], least: int, repeat: int, stay: list[int]) -> list[int]:
    """Numbers of layers, in order: the first ones of each kind, those that ``stay``, and further ones
    up to ``least``. Where there are more kinds than `MOST`, every entry of a kind stands in one of the
    layers."""
    seen: dict[tuple[Any, ...], list[int]] = {}
    for layer, one in enumerate(kinds):
        seen.setdefault(one, []).append(layer)
    picked = sorted({*stay, *(layer for layers in seen.values() for layer in layers[:repeat])})
    if len(picked) > MOST * repeat and not stay:
        covered: set[tuple[int, Any]] = set()
        chosen = []
        for layer in picked:
            new = {*enumerate(kinds[layer])} - covered
            if new:
                chosen.append(layer)
                covered |= new
        picked = chosen[: 2 * MOST]
    again = next((layer for layer in range(1, len(kinds)) if kinds[layer] == kinds[0] and layer not in picked), None)
    if again is not None and len(seen) > 1 and len(picked) <= TWICE:  # the first layer may be one of its own
        picked.append(again)
    for layer in range(len(kinds)):
        if len(picked) >= min(least, len(kinds)):
            break
        if layer not in picked:
            picked.append(layer)
    return sorted(picked)
