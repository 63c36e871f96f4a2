"""OLMo's head behind a norm without a gain: no wider model with a tied head computes the same, and
the reason is the fixed epsilon."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import OlmoConfig
from transformers.models.olmo.modeling_olmo import OlmoLayerNorm

from growth import plan_widening
from growth.algebra.laws import Growth, Law
from growth.algebra.maps import Map
from growth.architectures import registry
from growth.architectures.families.olmo import OLMO
from growth.errors import IllegalGrowthError
from growth.plan import candidate
from growth.plan.options import Options
from growth.plan.plan import TOLERANCE
from growth.proof.twin import twin_report
from growth.rules.norm import RESIDUAL


@dataclass(frozen=True)
class Power(Law):
    """Copies at scale ``(m/n)**exponent``."""

    exponent: float

    def grow(self, g: Growth) -> Map:
        return Map.repeat(g.n, g.m, (g.m / g.n) ** self.exponent)


def raw(model_class: str, **changes: Any) -> dict[str, Any]:
    return {**OlmoConfig(**changes).to_dict(), "architectures": [model_class]}


def test_a_tied_head_is_refused_with_the_next_step_and_a_model_without_one_is_not() -> None:
    tied = raw("OlmoForCausalLM", tie_word_embeddings=True)
    with pytest.raises(
        IllegalGrowthError, match=r"its head is tied to the embedding .*\. Untie the head on the way, by --untie "
    ):
        plan_widening(tied)
    assert twin_report(tied, Options(width=3, untie=True)).ok and twin_report(tied, Options(untie=True)).ok
    assert twin_report(raw("OlmoModel", tie_word_embeddings=True), Options(width=3)).ok


def test_the_only_scale_that_serves_a_tied_head_needs_another_epsilon(monkeypatch: pytest.MonkeyPatch) -> None:
    """``sum(w * w / sqrt(w**2)) = 1`` over k copies makes w = 1/k, whose variance is 1/k**2 of the
    old one."""
    monkeypatch.setattr(candidate, "grown_epsilons", lambda *_: ({}, []))

    def difference(exponent: float) -> float:
        mutant = replace(OLMO, for_config=None, laws={**OLMO.laws, RESIDUAL: Power(exponent)})
        monkeypatch.setitem(registry._REGISTRY, "olmo", mutant)
        return twin_report(raw("OlmoForCausalLM", tie_word_embeddings=True), Options(width=2)).difference

    assert all(difference(exponent) > 0.1 for exponent in (0, -0.5, -0.75, -1.25))
    assert 1e-4 < difference(-1) < 0.1

    narrow = 18

    def own_epsilon(self: OlmoLayerNorm, x: Tensor) -> Tensor:
        return F.layer_norm(x.to(torch.float64), x.shape[-1:], eps=1e-5 * (narrow / x.shape[-1]) ** 2)

    monkeypatch.setattr(OlmoLayerNorm, "forward", own_epsilon)
    assert difference(-1) <= TOLERANCE
