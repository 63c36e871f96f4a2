"""Two norms that share one epsilon and need two values of it are refused, with the way that is left."""

from __future__ import annotations

import pytest
from transformers import LlamaConfig

import growth
from growth import architectures
from growth.algebra.maps import Map
from growth.algebra.roles import Gain
from growth.architectures import BRANCH, NORMED, RESIDUAL
from growth.plan.norm_epsilon import grown_epsilons


@pytest.mark.parametrize(
    ("scaling", "way"),
    [
        ("orthogonal", "Use --scaling unit, which keeps it."),
        ("unit", "Use whole multiples of the old sizes, which keep it."),
    ],
)
def test_a_refused_epsilon_says_what_is_left(scaling: str, way: str) -> None:
    maps = {RESIDUAL: Map.repeat(2, 4), BRANCH: Map.repeat(2, 4, 0.5)}
    gains = [Gain(RESIDUAL, NORMED), Gain(BRANCH, RESIDUAL)]
    with pytest.raises(growth.GrowthError) as caught:
        grown_epsilons(architectures.find("llama"), LlamaConfig(rms_norm_eps=1e-2), maps, gains, scaling)
    assert str(caught.value).endswith(way)
    assert grown_epsilons(architectures.find("llama"), LlamaConfig(), maps, gains[:1], scaling) == {}
