"""Every coefficient of the original derivation's table (Su 2021, "Can we losslessly enlarge a
Transformer?"), for BERT.

It is ``scaling="orthogonal", attention="head-dim"``: repeat and divide by sqrt(K).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

import growth
from growth.plan.plan import TOLERANCE, Plan
from support.families import LANGUAGE_MODELS, build, difference, exact

exactly = pytest.fixture(exact, autouse=True)
BERT = next(case for case in LANGUAGE_MODELS if case.model_type == "bert")
LAYER = "bert.encoder.layer.0."


def table(k: int) -> Iterator[tuple[str, float]]:
    yield "bert.embeddings.word_embeddings.weight", 1 / k**0.5
    yield "bert.embeddings.position_embeddings.weight", 1 / k**0.5
    yield "bert.embeddings.token_type_embeddings.weight", 1 / k**0.5
    for norm in ("bert.embeddings.LayerNorm", LAYER + "attention.output.LayerNorm", LAYER + "output.LayerNorm"):
        yield norm + ".weight", 1 / k**0.5
        yield norm + ".bias", 1 / k**0.5
    for side in ("query", "key"):
        yield f"{LAYER}attention.self.{side}.weight", k**0.25 / k
        yield f"{LAYER}attention.self.{side}.bias", k**0.25 / k**0.5
    yield LAYER + "attention.self.value.weight", 1 / k
    yield LAYER + "attention.self.value.bias", 1 / k**0.5
    yield LAYER + "attention.output.dense.weight", 1 / k
    yield LAYER + "attention.output.dense.bias", 1 / k**0.5
    yield LAYER + "intermediate.dense.weight", 1 / k**0.5
    yield LAYER + "intermediate.dense.bias", 1
    yield LAYER + "output.dense.weight", 1 / (k * k**0.5)
    yield LAYER + "output.dense.bias", 1 / k**0.5


def grown(k: int) -> tuple[growth.Grown, torch.nn.Module]:
    small = build(BERT, layer_norm_eps=1e-12)
    return growth.widen(small, width=k, attention="head-dim", scaling="orthogonal"), small


def coefficients(plan: Plan, name: str) -> np.ndarray:
    values = np.ones(())
    for dimension in plan.tensors[name].dimensions:
        values = np.multiply.outer(values, dimension.value)
    return values


@pytest.mark.parametrize("k", [2, 3])
def test_every_coefficient_of_the_table(k: int) -> None:
    plan = grown(k)[0].plan
    for name, expected in table(k):
        np.testing.assert_allclose(coefficients(plan, name), expected, rtol=1e-14, err_msg=name)
    assert plan.new_config["layer_norm_eps"] == pytest.approx(1e-12 / k, rel=1e-12)


def test_the_second_bias_as_published_for_two_is_not_exact_unless_it_is_zero() -> None:
    """The published table prints 1/2 where 1/sqrt(2) belongs."""
    result, small = grown(2)
    wide = result.model
    assert difference(small, wide, result.plan) <= TOLERANCE  # type: ignore[arg-type]
    with torch.no_grad():
        for layer in wide.bert.encoder.layer:
            layer.output.dense.bias *= 0.5 / 0.5**0.5
    assert difference(small, wide, result.plan) > 1e-3  # type: ignore[arg-type]
    with torch.no_grad():
        for model in (small, wide):
            for layer in model.bert.encoder.layer:  # type: ignore[union-attr]
                layer.output.dense.bias.zero_()
    assert difference(small, wide, result.plan) <= TOLERANCE  # type: ignore[arg-type]
