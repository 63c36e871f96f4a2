"""Each mistake that new layers can have, made on purpose: the twin has to see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

import growth.extension.kinds
import growth.extension.layer_config
import growth.extension.layers
from growth.algebra.roles import Gain, Role
from growth.errors import ProofError
from growth.plan.build import plan_config
from growth.plan.options import chosen
from growth.proof.twin import prove_twin
from support.depth import deeper
from support.families import exact
from support.family_cases import MAIN, small_config

exactly = pytest.fixture(exact, autouse=True)

right = growth.extension.layers._silence
places = growth.extension.layers.places


def loud_writers(roles: Sequence[Role], streams: Any) -> float | None:
    return None if len(roles) > 1 else right(roles, streams)


def forgotten_biases(roles: Sequence[Role], streams: Any) -> float | None:
    return None if len(roles) == 1 else right(roles, streams)


def zero_gains(roles: Sequence[Role], streams: Any) -> float | None:
    """0 also for a gain to which the model adds 1."""
    return 0.0 if isinstance(roles[0], Gain) and right(roles, streams) is not None else right(roles, streams)


def half_silent(roles: Sequence[Role], streams: Any) -> float | None:
    """As if only attention wrote the residual stream."""
    return None if any("ffn" in str(role) for role in roles) else right(roles, streams)


def swapped(*given: Any) -> Any:
    """Two of the old layers change their places."""
    config, stack = places(*given)
    (first, second), origins = stack.kept[:2], list(stack.origins)
    origins[first], origins[second] = origins[second], origins[first]
    return config, replace(stack, origins=tuple(origins))


def turned(listed: list[Any], before: int, origins: Sequence[int], numbers: bool) -> list[Any]:
    return [listed[origin] for origin in reversed(origins)] if len(listed) == before else listed


MUTANTS: dict[str, tuple[str, Any, str, Callable[..., Any]]] = {
    "a writer is not silent": ("llama", growth.extension.layers, "_silence", loud_writers),
    "only one of two writers is": ("llama", growth.extension.layers, "_silence", half_silent),
    "the bias of a writer is forgotten": ("gpt2", growth.extension.layers, "_silence", forgotten_biases),
    "a gain to which 1 is added is 0": ("gemma2", growth.extension.layers, "_silence", zero_gains),
    "an old layer stands in the place of another": ("llama", growth.extension.layers, "places", swapped),
    "the list of kinds is in another order": ("gemma2", growth.extension.layer_config, "_followed", turned),
}


def raw_of(model_type: str) -> dict[str, Any]:
    raw = small_config(*next(case for case in MAIN if case[0] == model_type))
    if model_type == "gemma2":
        raw["layer_types"] = ["full_attention", "sliding_attention"]
    return raw


@pytest.mark.parametrize("name", MUTANTS)
def test_the_twin_sees_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model_type, module, function, wrong = MUTANTS[name]
    raw = raw_of(model_type)
    choice: Any = deeper(raw, 1)
    prove_twin(plan_config(raw, chosen(choice)))
    monkeypatch.setattr(module, function, wrong)
    monkeypatch.setattr(growth.extension.kinds, "_of_their_kind", lambda stack, old, new: stack)
    with pytest.raises(ProofError, match="differs by"):
        prove_twin(plan_config(raw, chosen(choice)))


def test_layers_of_another_kind_are_not_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list in the wrong order does not reach the twin: the class would build other layers."""
    monkeypatch.setattr(growth.extension.layer_config, "_followed", turned)
    raw = raw_of("gemma2")
    with pytest.raises(growth.IllegalGrowthError, match="what a layer is follows from its number"):
        plan_config(raw, chosen(deeper(raw, 1, insert="start")))  # type: ignore[arg-type]
