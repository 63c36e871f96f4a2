"""A plan's maps by the names of their spaces."""

from __future__ import annotations

import pytest
from transformers import LlamaConfig

import growth


def plan() -> growth.Plan:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "vocab_size": 11}
    config = LlamaConfig(num_attention_heads=4, num_key_value_heads=2, architectures=["LlamaForCausalLM"], **sizes)
    return growth.plan_widening(config, width=2)


def test_it_is_the_map_of_the_space_of_that_name() -> None:
    found = plan()
    assert found.maps
    assert [found.map(space.name) for space in found.maps] == list(found.maps.values())
    heads = found.map("kv_heads") * found.map("queries_per_kv")
    assert [new for new, old in enumerate(heads.source) if old == 0] == [0, 4]


def test_a_space_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(growth.GrowthError) as refused:
        plan().map("kv_head")
    assert str(refused.value).startswith("this plan of a llama has no space 'kv_head'. Use one of its spaces: ")
    assert all(space.name in str(refused.value) for space in plan().maps)
