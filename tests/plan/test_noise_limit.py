"""How much noise a depth takes (`growth.plan.noise_limit`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AlbertConfig, BertConfig, LlamaConfig, T5Config

import growth
from growth.errors import IllegalGrowthError
from growth.plan import noise_limit
from growth.plan.noise_limit import largest_noise, layers_of
from growth.proof.twin import prove_twin
from support.real_checkpoints import smollm2


def config(layers: int) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=64, intermediate_size=172, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=layers
    )


@pytest.mark.parametrize(("layers", "most"), [(1, 8.0), (2, 7.7), (7, 4.1), (30, 2.0), (119, 1.0), (400, 1.0)])
def test_the_limit_falls_with_depth_and_never_below_1(layers: int, most: float) -> None:
    assert largest_noise(layers) == most


@pytest.mark.parametrize("choice", [{"noise": 2.1}, {"symmetry": "noise:2.1"}, {"noise": 2, "layers": 36}])
def test_more_is_refused_with_what_this_depth_takes(choice: dict[str, Any]) -> None:
    with pytest.raises(
        IllegalGrowthError, match=r"in 3[06] layers would magnify .* Use at most (2|1\.8) at this depth"
    ):
        growth.plan_widening(config(30), width=2, **choice)
    growth.plan_widening(config(30), width=2, noise=2)
    growth.plan_widening(config(300), width=2, noise=1)


@pytest.mark.parametrize(
    ("layers", "choice", "noise"),
    [
        (2, {}, 2.0),
        (30, {}, 2.0),
        (31, {}, 1.9),
        (200, {}, 1.0),
        (30, {"layers": 60}, 1.4),
        (30, {"noise": 0.5}, 0.5),
        (30, {"symmetry": "auto"}, 2.0),
    ],
    ids=str,
)
def test_the_default_takes_what_trains_best_as_far_as_depth_allows(
    layers: int, choice: dict[str, Any], noise: float
) -> None:
    """The depth is that of the grown model, and the plan says the number."""
    plan = growth.plan_widening(config(layers), width=2, **choice)
    assert plan.options.breaking.noise == noise and f"symmetry noise:{noise:g} " in plan.choices
    assert {tensor.symmetry.noise for tensor in plan.tensors.values()} == {0.0, noise}


def test_layers_are_those_of_all_stacks() -> None:
    both = T5Config(d_model=32, d_kv=8, d_ff=64, num_layers=3, num_decoder_layers=2, num_heads=4)
    encoder = BertConfig(hidden_size=32, num_attention_heads=4, intermediate_size=64, num_hidden_layers=3)
    shared = AlbertConfig(
        hidden_size=32, num_attention_heads=4, intermediate_size=64, num_hidden_layers=48, embedding_size=16
    )
    for raw, layers in ((both, 5), (encoder, 3), (shared, 48)):
        plan = growth.plan_widening(raw, width=2)
        assert layers_of(plan.tensors, plan.new) == layers
        assert plan.options.breaking.noise == min(2, largest_noise(layers))
    parallel = [f"xlm.{kind}.{layer}.weight" for kind in ("attentions", "ffns", "norms.x") for layer in range(12)]
    assert layers_of(parallel, {}) == 24  # norms.x stands elsewhere
    assert layers_of(["weight"], {}) == 1


def test_shared_layers_count_as_often_as_they_are_passed() -> None:
    """Noise of 8 in an ALBERT of 48 layers destroyed its outputs, where one set of weights was counted."""
    shared = AlbertConfig(hidden_size=32, num_attention_heads=4, intermediate_size=64, num_hidden_layers=48)
    with pytest.raises(IllegalGrowthError, match=r"in 48 layers .* at most 1\.5 "):
        growth.plan_widening(shared, width=2, noise=8)


def test_a_miniature_takes_what_its_model_takes() -> None:
    """One layer takes noise of 8, and its miniature has two."""
    assert prove_twin(growth.plan_widening(config(1), width=2, noise=8)).ok


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "equal"), [(2, True), (4, False)])
def test_on_a_trained_model_of_30_layers_the_limit_is_where_rounding_sets_in(
    noise: int, equal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SmolLM2-135M in bfloat16: twice the noise that is allowed is no longer explained by rounding."""
    if not equal:
        monkeypatch.setattr(noise_limit, "LARGEST", 1e9)
    source = smollm2("bfloat16")
    growth.widen_checkpoint(source, tmp_path / "wide", width=2, noise=noise)
    report = growth.check_equivalence(source, tmp_path / "wide")
    assert report.equal is equal
    assert (report.difference.mean < 1.5 * report.floor.mean) is equal
