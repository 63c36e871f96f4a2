"""Which outputs of a deeper model are those of the old layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from growth.plan.build import plan_config
from growth.plan.options import chosen
from growth.proof.outputs import forward, largest_difference, of_old_layers
from support.depth import deeper, grown
from support.families import VOCABULARY, exact, random_inputs
from support.family_cases import MAIN, small_config

exactly = pytest.fixture(exact, autouse=True)


def pair(model_type: str, **choice: Any) -> tuple[dict[str, Tensor], dict[str, Tensor], Any]:
    raw = small_config(*next(case for case in MAIN if case[0] == model_type))
    plan = plan_config(raw, chosen(deeper(raw, 2, **choice)))  # type: ignore[arg-type]
    small, large = grown(raw, plan)
    inputs = random_inputs(small, VOCABULARY)
    return forward(small, inputs), forward(large, inputs), plan


def test_hidden_states_and_router_logits_of_every_layer_are_compared() -> None:
    before, after, plan = pair("mixtral", insert="even")
    found = of_old_layers(after, plan)
    assert found.keys() == before.keys() >= {"hidden_states.2", "router_logits.0", "router_logits.1"}
    assert all(torch.equal(found[name], value) for name, value in before.items())


def test_router_logits_of_some_layers_are_not() -> None:
    before, after, plan = pair("deepseek_v3")
    assert "router_logits" not in " ".join(of_old_layers(after, plan))
    assert largest_difference(before, after, plan) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda name, value: value + 1e-9 * (name == "hidden_states.2"),
        lambda name, value: value + 1e-9 * (name == "router_logits.2"),
    ],
)
def test_a_difference_in_an_old_layer_is_seen(wrong: Callable[[str, Tensor], Tensor]) -> None:
    """Old layer 1 is layer 2 of the new model: it receives entry 2."""
    before, after, plan = pair("mixtral", insert="even")
    assert [stack.kept for stack in plan.extension.stacks] == [(0, 2)]
    assert largest_difference(before, {name: wrong(name, value) for name, value in after.items()}, plan) > 1e-10
