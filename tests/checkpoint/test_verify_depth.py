"""The comparison of real models where the grown one has more layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

import growth
from growth.checkpoint import verify
from growth.checkpoint.depth import entries_of
from growth.checkpoint.results import EquivalenceReport
from support.small_models import llama

SIZES = {
    "hidden_size": 24,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "vocab_size": 60,
}


def mixtral() -> PreTrainedModel:
    torch.manual_seed(0)
    return MixtralForCausalLM(MixtralConfig(**SIZES, num_key_value_heads=2, num_local_experts=3)).eval()


def gemma2() -> PreTrainedModel:
    torch.manual_seed(0)
    return Gemma2ForCausalLM(Gemma2Config(**SIZES, num_key_value_heads=2, head_dim=8)).eval()


def t5() -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"d_model": 24, "d_kv": 6, "d_ff": 40, "num_heads": 4, "vocab_size": 60, "decoder_start_token_id": 0}
    return T5ForConditionalGeneration(T5Config(**sizes, num_layers=2)).eval()


def compared(folder: Path) -> EquivalenceReport:
    return growth.check_equivalence(folder / "small", folder / "deep", tokens=60, device="cpu", dtype="float32")


DEEPER: dict[Any, dict[str, Any]] = {
    llama: {"layers": 5, "insert": "after:0,1,1"},
    mixtral: {"layers": 4},
    gemma2: {"layers": 4},
    t5: {"sizes": {"decoder.num_hidden_layers": 3, "encoder.num_hidden_layers": 4}},
}


@pytest.mark.parametrize(
    "model",
    [llama, *(pytest.param(model, marks=pytest.mark.slow) for model in (t5, mixtral, gemma2))],
    ids=lambda model: model.__name__,
)
def test_deeper_is_equal(model: Any, tmp_path: Path) -> None:
    """With growth.json, which says which layer is which; and then without."""
    model().save_pretrained(tmp_path / "small")
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "deep", **DEEPER[model])
    for file in ("growth.json", "README.md"):
        report = compared(tmp_path)
        assert report.equal and report.diverges_at is None and not report.turned, report
        assert report.cosines is not None and report.cosines.length == pytest.approx(1)
        routers = any("router" in name for name in report.outputs)
        assert routers == (model is mixtral and file == "growth.json")
        (tmp_path / "deep" / file).unlink()


def test_hidden_states_compared_by_number_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the rule is for: entry 2 of five layers is not the last of two layers."""
    llama().save_pretrained(tmp_path / "small")
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "deep", **DEEPER[llama])
    monkeypatch.setattr(verify, "entries_of", lambda before, after, plan: {name: name for name in before})
    report = compared(tmp_path)
    assert report.turned and report.diverges_at is not None and report.diverges_at.startswith("hidden_states.")


def test_a_new_layer_that_is_not_silent_is_found(tmp_path: Path) -> None:
    """It is layer 3, behind the old layer 1, which is now layer 2; the last hidden state is entry 2
    of the source."""
    llama().save_pretrained(tmp_path / "small")
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "deep", layers=4, insert="after:0,0")
    path = tmp_path / "deep" / "model.safetensors"
    weights = load_file(path)
    weights["model.layers.1.mlp.down_proj.weight"][3] += 0.5
    save_file(weights, path, metadata={"format": "pt"})
    report = compared(tmp_path)
    assert not report.equal and report.turned
    assert report.diverges_at is not None and report.diverges_at.startswith(
        "hidden_states.1 (hidden_states.3 of the grown model; max |difference| "
    )
    assert "\nhidden states diverge first at hidden_states.1 (hidden_states.3" in str(report)


def test_which_entries_are_compared() -> None:
    before = ["logits", "hidden_states.0", "hidden_states.1", "router_logits.0"]
    after = ["logits", *(f"hidden_states.{number}" for number in range(3)), "router_logits.0", "router_logits.1"]
    assert entries_of(before, after, None) == {"logits": "logits", "hidden_states.1": "hidden_states.2"}
    assert entries_of(before, before, None) == {name: name for name in before}
    assert entries_of(before, ["last"], None) == {}
