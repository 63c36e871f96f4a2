"""Which layers a miniature has: one of every kind that the user's pattern of layers has.

A kind is what tells one layer from another: its entries in lists with one for each layer, whether
lists of layer numbers name it, on which side of a bound it stands (the first ones are dense, the
last ones share their keys), and what ``per_layer_config`` says of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

LAYER_COUNT = re.compile(
    r"^(num_|n_)?(hidden_)?layers?$|^depth$|^num_blocks$|^(\w+_)?(encoder|decoder|transformer|conf_num_hidden)_layers$"
    r"|^(\w+_)?num_hidden_layers$|^num_layers_per_stack$|^num_global_layers$|^resampler_depth$"
)
_NO_COUNT = re.compile(r"sparse|shared|mtp|nextn|dense|window|residual|lstm")
FIRST = ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index")
LAST = ("num_kv_shared_layers",)
_PERIODS = re.compile(r"(_period|_interval|_sparse_step|_every_n_layers|sliding_window_pattern|layers_per_\w*block)$")
FEWEST, MOST, PERIOD, TWICE = 2, 6, 4, 3


def layer_counts(fields: Mapping[str, Any]) -> dict[str, int]:
    """The fields of one section that count its layers."""
    return {
        name: value
        for name, value in fields.items()
        if type(value) is int and value > 0 and LAYER_COUNT.search(name) and not _NO_COUNT.search(name)
    }


def small_layers(fields: Mapping[str, Any], repeat: int = 1) -> dict[str, Any]:
    """Fields of one section under which it has few layers, and every kind of them.

    Args:
        fields: of the section.
        repeat: how many layers of each kind, as far as there are.

    Returns:
        Field -> value: counts of layers, and what says how layers differ.

    Example:
        >>> small_layers({"num_hidden_layers": 6, "layer_types": ["a", "a", "b"] * 2, "num_dense_layers": 1})
        {'num_hidden_layers': 3, 'layer_types': ['a', 'a', 'b'], 'num_dense_layers': 1}
    """
    counts = layer_counts(fields)
    periods = {name: value for name, value in fields.items() if type(value) is int and _PERIODS.search(name)}
    if not counts:
        return _by_list(fields, repeat)
    total = max(counts.values())
    numbers = {name: value for name, value in fields.items() if _layer_numbers(name, value, total)}
    listed = {name: value for name, value in fields.items() if name not in numbers and _per_layer(name, value, total)}
    firsts = {name: fields[name] for name in FIRST if type(fields.get(name)) is int and 0 <= fields[name] <= total}
    lasts = {name: fields[name] for name in LAST if type(fields.get(name)) is int and 0 <= fields[name] <= total}
    own = {int(layer): said for layer, said in (fields.get("per_layer_config") or {}).items()}
    kinds = [
        (
            *(json.dumps(value[layer]) for value in listed.values()),
            *(layer in value for value in numbers.values()),
            *(layer < value for value in firsts.values()),
            *(layer >= total - value for value in lasts.values()),
            json.dumps(own.get(layer), sort_keys=True),
        )
        for layer in range(total)
    ]
    pattern = next((name for name, value in fields.items() if _is_pattern(name, value, total)), None)
    if pattern is not None:  # it is repeated over all layers
        kinds = [(*kind, fields[pattern][layer % len(fields[pattern])]) for layer, kind in enumerate(kinds)]
    least = FEWEST
    if any(value > 1 for value in periods.values()) and not listed:
        least = PERIOD
    picked = _picked(kinds, least, repeat)
    small: dict[str, Any] = {
        name: len(picked) if value == total else min(value, FEWEST) for name, value in counts.items()
    }
    if pattern is not None:
        small[pattern] = [fields[pattern][layer % len(fields[pattern])] for layer in picked]
    small |= {name: [value[layer] for layer in picked] for name, value in listed.items()}
    if (stack := fields.get("num_layers_per_stack")) and total % stack == 0:  # the others count passes through it
        small |= {"num_layers_per_stack": FEWEST, "num_hidden_layers": FEWEST * (total // stack)}
    small |= {name: [place for place, layer in enumerate(picked) if layer in value] for name, value in numbers.items()}
    small |= {name: sum(layer < value for layer in picked) for name, value in firsts.items()}
    small |= {name: sum(layer >= total - value for layer in picked) for name, value in lasts.items()}
    if isinstance(fields.get("stage_names"), list) and len(fields["stage_names"]) == total + 1:  # a backbone's outputs
        last = len(picked)
        names = {
            "stage_names": fields["stage_names"][: last + 1],
            "out_features": [f"stage{last}"],
            "out_indices": [last],
        }
        small |= {name: value for name, value in names.items() if fields.get(name) is not None}
    if own:
        small["per_layer_config"] = {str(place): own[layer] for place, layer in enumerate(picked) if layer in own}
    for name, value in periods.items():
        small[name] = min(value, PERIOD if "block" not in name else FEWEST)
        offset = name.removesuffix("period") + "offset"
        if name.endswith("period") and type(fields.get(offset)) is int:
            small[offset] = fields[offset] % small[name]
    if type(end := fields.get("moe_layer_end_index")) is int:
        small["moe_layer_end_index"] = min(end, len(picked) - 1)
    if type(window := fields.get("max_window_layers")) is int:
        small["max_window_layers"] = min(window, len(picked) if window >= total else len(picked) - 1)
    return small


def _by_list(fields: Mapping[str, Any], repeat: int) -> dict[str, Any]:
    """The same for a section that counts its layers by the length of its pattern."""
    name = next((name for name in ("layers_block_type", "layer_types") if isinstance(fields.get(name), list)), None)
    if name is None or not fields[name]:
        return {}
    kinds = [(entry,) for entry in fields[name]]
    return {name: [fields[name][layer] for layer in _picked(kinds, FEWEST, repeat)]}


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


def _picked(kinds: list[tuple[Any, ...]], least: int, repeat: int) -> list[int]:
    """Numbers of layers, in order: the first ones of each kind, and further ones up to ``least``. Where
    there are more kinds than `MOST`, every entry of a kind stands in one of the layers."""
    seen: dict[tuple[Any, ...], list[int]] = {}
    for layer, one in enumerate(kinds):
        seen.setdefault(one, []).append(layer)
    picked = sorted(layer for layers in seen.values() for layer in layers[:repeat])
    if len(picked) > MOST * repeat:
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
