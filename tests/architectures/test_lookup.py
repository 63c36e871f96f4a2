"""Rules are looked up once for all names that no pattern tells apart, and tensors that grow alike are planned once."""

from __future__ import annotations

import pytest
from transformers import MixtralConfig

import growth
from growth import architectures
from growth.algebra.roles import Keeps, Role
from growth.architectures import patterns, registry
from growth.architectures.patterns import Lookup

A, B, C = ((Keeps(),) * count for count in (1, 2, 3))


@pytest.mark.parametrize("model_type", registry.known())
def test_every_name_finds_what_its_patterns_say(model_type: str) -> None:
    tables = architectures.find(model_type)._tables
    lookup = Lookup(tables)
    for own in tables:
        for number in ("0", "1", "17", "*"):
            for pattern, _ in (*tables[own], *tables[""]):
                name = pattern.replace("*", number)
                expected = patterns.closest(tables[own], name) or patterns.closest(tables[""], name)
                assert lookup.closest(name, own) == expected and expected


def found(name: str, *rows: tuple[str, tuple[Role, ...]]) -> list[tuple[Role, ...]]:
    lookup = Lookup({"": rows})
    lookup.closest("layers.5.mlp.5.weight", "")
    return lookup.closest(name, "")


def test_numbers_that_a_pattern_spells_out_are_told_apart() -> None:
    rows = (("layers.*.mlp.0.weight", A), ("layers.*.mlp.*.weight", B), ("layers.3.mlp.*.weight", C))
    assert found("layers.5.mlp.0.weight", *rows) == [A]
    assert found("layers.5.mlp.1.weight", *rows) == [B]
    assert found("layers.3.mlp.1.weight", *rows) == [C]
    assert found("layers.5.mlp.x.weight", *rows) == []
    assert found("layers.12.weight", ("layers.1*.weight", A)) == [A]
    assert found("layers.2.weight", ("layers.1*.weight", A)) == []


def test_a_lookup_that_forgets_them_finds_the_wrong_rule() -> None:
    lookup = Lookup({"": (("layers.*.mlp.0.weight", A), ("layers.*.mlp.*.weight", B))})
    lookup.numbers = set()
    assert lookup.closest("layers.5.mlp.0.weight", "") == [B]


def test_experts_share_their_dimensions() -> None:
    config = MixtralConfig(
        hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=2
    )
    plan = growth.plan_widening(config, width=2, noise=1.0)
    kinds = {(tensor.roles, tensor.shape): tensor.dimensions for tensor in plan.tensors.values()}
    assert len(kinds) < len(plan.tensors)
    assert all(tensor.dimensions is kinds[tensor.roles, tensor.shape] for tensor in plan.tensors.values())
