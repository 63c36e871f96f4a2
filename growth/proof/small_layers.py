"""Few layers of a stack, with every kind of layer among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEPTHS = (
    "num_hidden_layers",
    "num_layers",
    "n_layer",
    "n_layers",
    "depth",
    "layers",
    "encoder_layers",
    "decoder_layers",
    "num_encoder_layers",
    "num_decoder_layers",
    "conf_num_hidden_layers",
    "num_global_layers",
    "resampler_depth",
    "aligner_num_add_layers",
    "num_res_blocks",
)
"""Fields that count the layers of a stack."""

INDEX_ENDS = ("_indexes", "_indices", "_idxs", "attention_layers", "_layer_ids")
"""How the names of fields end that list numbers of layers."""


def small_layers(fields: Mapping[str, Any], least: int = 2) -> tuple[dict[str, Any], dict[int, int]]:
    """What a miniature writes for the layers of one section.

    Lists with an entry per layer are cut to the first layers of each kind, where a kind is what all
    lists together say of a layer; lists of numbers of layers become numbers of those kept.

    Args:
        fields: of the section.
        least: how many layers stay at least.

    Returns:
        (field -> value, number of a layer -> its number in the miniature or that of the nearest one
        before it).

    Example:
        >>> small_layers({"num_hidden_layers": 4, "layer_types": ["a", "a", "a", "b"]})[0]
        {'num_hidden_layers': 2, 'layer_types': ['a', 'b']}
        >>> small_layers({"depth": 32, "fullatt_block_indexes": [7, 15, 23, 31]})[0]
        {'depth': 2, 'fullatt_block_indexes': [1]}
    """
    counts = {name: value for name in DEPTHS if type(value := fields.get(name)) is int and value > 0}
    if not counts:
        kinds = (value for name, value in fields.items() if name.endswith(("block_type", "block_types")))
        listed = next((value for value in kinds if isinstance(value, list)), None)
        counts = {} if listed is None else {"": len(listed)}
    written: dict[str, Any] = {name: min(value, least) for name, value in counts.items() if name}
    if not counts:
        return written, {}
    deep = next(iter(counts.values()))
    own_sizes = {int(number): said for number, said in (fields.get("per_layer_config") or {}).items()}
    per_layer = {
        name: value
        for name, value in fields.items()
        if isinstance(value, list) and len(value) == deep and deep > least
    }
    indices = {
        name: value
        for name, value in fields.items()
        if name.endswith(INDEX_ENDS)
        and isinstance(value, list)
        and value
        and all(type(i) is int for i in value)
        and name not in per_layer
        and max(value) < deep
    }
    stored = _kept_for_output(indices)
    if own_sizes:
        per_layer["per_layer_config"] = [own_sizes.get(number) for number in range(deep)]
    shared = fields.get("num_kv_shared_layers")
    tail = shared if type(shared) is int and 0 < shared < deep else 0
    picked = _picked(per_layer, indices, deep, least, tail, stored, fields)
    if per_layer or indices or tail or len(picked) != least:
        for name, value in counts.items():
            if name and value == deep:
                written[name] = len(picked)
    numbers = {number: _before(number, picked) for number in range(deep)}
    for name, value in per_layer.items():
        kept = [value[number] for number in picked]
        if name.endswith("source_layers"):
            kept = [_before(number, picked) for number in kept]
        elif _is_numbers(name):
            kept = sorted({numbers[number] for number in kept if number in picked})
        written[name] = kept
    if own_sizes:
        kept_sizes = enumerate(written["per_layer_config"])
        written["per_layer_config"] = {str(number): said for number, said in kept_sizes if said is not None}
    for name, value in indices.items():
        kept = [picked.index(number) for number in value if number in picked]
        written[name] = kept
    if tail:
        written["num_kv_shared_layers"] = sum(number >= deep - tail for number in picked)
    if type(dense := fields.get("first_k_dense_replace")) is int and dense > 0:
        written["first_k_dense_replace"] = 1
    return written, numbers


def _kept_for_output(indices: Mapping[str, list[int]]) -> list[int]:
    """Layers whose number of entries matters: their outputs are joined, or each has a part of its
    own, so that all of them stay."""
    ends = ("visual_indexes", "layers_indices")
    return [number for name, value in indices.items() if name.endswith(ends) for number in value]


def _picked(
    per_layer: Mapping[str, list[Any]],
    indices: Mapping[str, list[int]],
    deep: int,
    least: int,
    tail: int,
    stored: list[int],
    fields: Mapping[str, Any],
) -> list[int]:
    """The layers that stay, in order: the first of every kind, and further ones up to ``least``."""
    dense = fields.get("first_k_dense_replace") or 0
    step = fields.get("no_rope_layer_interval")

    def kind(number: int) -> tuple[Any, ...]:
        said = tuple(repr(value[number]) for name, value in per_layer.items() if not _is_numbers(name))
        own = tuple(value[number] == number for name, value in per_layer.items() if name.endswith("source_layers"))
        named = tuple(number in value for value in indices.values())
        return (*said, *own, *named, number < dense, number >= deep - tail, repr(step))

    first: dict[tuple[Any, ...], int] = {}
    for number in range(deep):
        first.setdefault(kind(number), number)
    chosen = {*first.values(), *stored}
    for number in range(deep):
        if len(chosen) >= min(least, deep):
            break
        chosen.add(number)
    return sorted(chosen)


NUMBERS = ("source_layers", "moe_layers", "full_attn_idxs", "scaling_layers")
"""How the names of lists end that hold numbers of layers, and may be as long as there are layers."""


def _is_numbers(name: str) -> bool:
    return name.endswith(NUMBERS)


def _before(number: int, picked: list[int]) -> int:
    return max((at for at, kept in enumerate(picked) if kept <= number), default=0)
