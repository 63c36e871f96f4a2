"""A miniature has every kind of layer of the user's pattern."""

from __future__ import annotations

from typing import Any

import pytest

from growth.infer import layers
from growth.infer.layers import small_layers

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "alike": ({"num_hidden_layers": 32}, {"num_hidden_layers": 2}),
    "few": ({"n_layer": 1}, {"n_layer": 1}),
    "two stacks": ({"encoder_layers": 12, "decoder_layers": 12}, {"encoder_layers": 2, "decoder_layers": 2}),
    "a list": (
        {"num_hidden_layers": 6, "layer_types": ["s", "s", "f"] * 2},
        {"num_hidden_layers": 3, "layer_types": ["s", "s", "f"]},
    ),
    "two lists": (
        {"num_hidden_layers": 4, "layer_types": ["s", "f", "s", "f"], "mlp_layer_types": ["d", "d", "e", "e"]},
        {"num_hidden_layers": 4, "layer_types": ["s", "f", "s", "f"], "mlp_layer_types": ["d", "d", "e", "e"]},
    ),
    "the first are dense": (
        {"num_hidden_layers": 61, "first_k_dense_replace": 3},
        {"num_hidden_layers": 3, "first_k_dense_replace": 2},
    ),
    "the last share their keys": (
        {"num_hidden_layers": 6, "layer_types": ["s", "f"] * 3, "num_kv_shared_layers": 2},
        {"num_hidden_layers": 4, "layer_types": ["s", "f"] * 2, "num_kv_shared_layers": 2},
    ),
    "numbers": (
        {"num_hidden_layers": 9, "attn_layer_indices": [4, 7]},
        {"num_hidden_layers": 3, "attn_layer_indices": [2]},
    ),
    "every layer": (
        {"num_hidden_layers": 5, "full_attn_idxs": [0, 1, 2, 3, 4]},
        {"num_hidden_layers": 2, "full_attn_idxs": [0, 1]},
    ),
    "a pattern": (
        {"num_hidden_layers": 26, "block_types": ["r", "r", "a"]},
        {"num_hidden_layers": 3, "block_types": ["r", "r", "a"]},
    ),
    "a period": (
        {"num_hidden_layers": 32, "attn_layer_period": 8, "attn_layer_offset": 4},
        {"num_hidden_layers": 4, "attn_layer_period": 4, "attn_layer_offset": 0},
    ),
    "layer by layer": (
        {"num_hidden_layers": 6, "per_layer_config": {"5": {"head_dim": 512}}},
        {"num_hidden_layers": 3, "per_layer_config": {"2": {"head_dim": 512}}},
    ),
    "all whose outputs are read": (
        {"depth": 27, "deepstack_visual_indexes": [8, 16, 24]},
        {"depth": 4, "deepstack_visual_indexes": [1, 2, 3]},
    ),
    "layers whose keys are another's": (
        {"num_hidden_layers": 4, "kv_source_layers": [0, 1, 0, 1]},
        {"num_hidden_layers": 3, "kv_source_layers": [0, 1, 0]},
    ),
    "only a list": ({"layers_block_type": ["m", "e", "m", "a"]}, {"layers_block_type": ["m", "e", "m", "a"]}),
}


@pytest.mark.parametrize("name", CASES)
def test_few_layers_of_every_kind(name: str) -> None:
    fields, small = CASES[name]
    assert small_layers(fields).fields == small


@pytest.mark.parametrize("name", CASES)
def test_each_kind_twice(name: str) -> None:
    fields, once = CASES[name]
    twice = small_layers(fields, repeat=2).fields
    kinds = {key: value for key, value in once.items() if isinstance(value, list) and isinstance(value[0], str)}
    for key, value in kinds.items():
        assert (
            all(twice[key].count(kind) == min(2, fields[key].count(kind)) for kind in {*value})
            or "period" in name
            or (
                len(fields[key]) < fields.get("num_hidden_layers", 0)
                or len(kinds) > 1
                or "num_kv_shared_layers" in once
            )
        )


def test_a_kind_that_is_lost_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "_picked", lambda kinds, least, repeat, stay: [0, 1])
    fields, small = CASES["a list"]
    assert small_layers(fields).fields != small
