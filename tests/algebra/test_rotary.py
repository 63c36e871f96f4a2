"""Rotary positions when heads widen: which kinds of scaling keep their frequencies, and which are
refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

import growth
from growth.checkpoint.preview import plan_widening
from growth.errors import IllegalGrowthError
from growth.plan.plan import TOLERANCE
from support.families import LANGUAGE_MODELS, build, difference, exact, load

exactly = pytest.fixture(exact, autouse=True)
LLAMA = next(case for case in LANGUAGE_MODELS if case.model_type == "llama")
FACTORS = [1.0, 1.5, 2.5, 4.0, 7.0]
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
YARN = {"factor": 4.0, "beta_fast": 4.0, "original_max_position_embeddings": 64, "truncate": False}
LONG = {"short_factor": FACTORS, "long_factor": [2 * f for f in FACTORS], "original_max_position_embeddings": 8}
KINDS: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default", "rope_theta": 500.0},
    "linear": {"rope_type": "linear", "rope_theta": 500.0, "factor": 3.0},
    "llama3": {"rope_type": "llama3", "rope_theta": 500.0, **LLAMA3},
    "longrope": {"rope_type": "longrope", "rope_theta": 500.0, "factor": 4.0, **LONG},
    "yarn, unrounded": {"rope_type": "yarn", "rope_theta": 500.0, **YARN},
    "yarn, attention factor": {"rope_type": "yarn", "rope_theta": 500.0, "mscale": 0.7, "mscale_all_dim": 1.2, **YARN},
}
REFUSED: dict[str, dict[str, Any]] = {
    "yarn": {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 16},
    "dynamic": {"rope_type": "dynamic", "rope_theta": 500.0, "factor": 4.0},
}


@pytest.mark.parametrize("rope", ["slots", "pairs"])
@pytest.mark.parametrize("kind", KINDS)
def test_scaled_frequencies_are_kept(kind: str, rope: str, tmp_path: Path) -> None:
    small = build(LLAMA, rope_parameters=KINDS[kind])
    small.save_pretrained(tmp_path / "small")
    result = growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", width=3, attention="head-dim", rope=rope)
    assert difference(load(tmp_path / "small", LLAMA), load(tmp_path / "wide", LLAMA), result.plan) <= TOLERANCE


@pytest.mark.parametrize("kind", REFUSED)
def test_scaling_that_depends_on_head_dim_is_refused_by_name(kind: str) -> None:
    small = build(LLAMA, rope_parameters=REFUSED[kind])
    with pytest.raises(growth.IllegalGrowthError, match=rf"type '{kind}' depends on head_dim .*--attention heads"):
        growth.widen(small, width=2, attention="head-dim")
    assert difference(small, (grown := growth.widen(small, width=2)).model, grown.plan) <= TOLERANCE


def test_an_accepted_loss_is_measured_and_shown(tmp_path: Path) -> None:
    small = build(LLAMA, rope_parameters=REFUSED["dynamic"])
    small.save_pretrained(tmp_path / "small")
    result = growth.widen_checkpoint(
        tmp_path / "small", tmp_path / "wide", width=2, attention="head-dim", rope="pairs", lossy=True
    )
    assert result.plan.lossy and result.proof.twin.difference > 1e-3
    assert "another function, which was accepted" in (tmp_path / "wide" / "README.md").read_text()
    assert difference(load(tmp_path / "small", LLAMA), load(tmp_path / "wide", LLAMA), result.plan) > 1e-3


def test_lossy_changes_nothing_where_growth_is_exact() -> None:
    small = build(LLAMA)
    grown = growth.widen(small, width=2, attention="head-dim", rope="pairs", lossy=True)
    assert not grown.plan.lossy and grown.proof.twin.ok


def test_pair_factors_are_the_formula() -> None:
    """theta ** (-2 (j mod k) / (kd)) for plain rotary positions."""
    raw = {**build(LLAMA, rope_parameters=KINDS["default"]).config.to_dict(), "architectures": ["LlamaForCausalLM"]}
    plan = growth.plan_widening(raw, width=3, attention="head-dim", rope="pairs")
    rope: Mapping[str, Any] = plan.new_config["rope_parameters"]
    expected = [500.0 ** (-2 * (j % 3) / 30) for j in range(15)]
    assert rope["short_factor"] == pytest.approx(expected, rel=1e-14) and rope["short_factor"] == rope["long_factor"]
    assert rope["attention_factor"] == 1.0


def test_llama3_formula_is_transformers_own() -> None:
    from growth.rules.rotary import _scaled_frequency

    config = build(LLAMA, rope_parameters={**KINDS["llama3"], **LLAMA3}).config
    theirs, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    ours = [_scaled_frequency(500.0 ** (-2 * i / 10), "llama3", KINDS["llama3"]) for i in range(5)]
    assert theirs.tolist() == pytest.approx(ours, rel=1e-13)
    assert (
        len({math.floor(a / b * 100) for a, b in zip(ours, (500.0 ** (-2 * i / 10) for i in range(5)), strict=True)})
        >= 3
    )


def test_yarn_per_kind_of_layer_is_refused_because_transformers_ignores_its_truncate() -> None:
    yarn = {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 4096,
        "truncate": False,
    }
    tables = {"full_attention": yarn, "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}
    raw = {**AutoConfig.for_model("olmo3", rope_parameters=tables).to_dict(), "architectures": ["Olmo3ForCausalLM"]}
    assert plan_widening(raw, width=2)
    with pytest.raises(IllegalGrowthError, match="rotary scaling of type 'yarn' depends on head_dim itself"):
        plan_widening(raw, width=2, attention="head-dim")
