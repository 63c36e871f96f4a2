"""Where rounding moves outputs by as much as they vary, no two models are found equal."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import growth
from growth.checkpoint import verify
from growth.checkpoint.results import EquivalenceReport
from support.command import Grow, grow

__all__ = ["grow"]


def chaotic(seed: int) -> LlamaForCausalLM:
    """In bfloat16, with queries and keys that amplify its rounding from layer to layer."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=97, num_hidden_layers=16))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            scale = 4.5 if "q_proj" in name or "k_proj" in name else 1.5
            parameter.data = scale * torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5
    return model.to(torch.bfloat16)  # type: ignore[call-arg]


def unrelated(dtype: str | None = None) -> EquivalenceReport:
    return growth.check_equivalence(chaotic(0), chaotic(7), tokens=128, device="cpu", dtype=dtype)


def test_unrelated_models_are_never_equal() -> None:
    """The floor was 8.9 where outputs go up to 10, and the report said "equal"."""
    report = unrelated()
    assert not report.equal and not report.resolved and report.difference.kl is not None and report.difference.kl > 1
    assert 1.2 < report.difference.mean / report.variation < 1.6
    assert "NOT RESOLVED: logits differ by" in str(report) and "models would pass: try --dtype float32" in str(report)
    assert "NOT RESOLVED" in repr(report)
    told = report.to_json()
    assert told["equal"] is False and told["resolved"] is False and told["variation"] == report.variation
    report = unrelated("float32")
    assert not report.equal and report.resolved and "NOT EQUAL" in str(report)


def test_the_floor_alone_lets_unrelated_models_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "RESOLVED", 0)
    with pytest.raises(AssertionError):
        test_unrelated_models_are_never_equal()


def test_the_same_model_and_its_growth_are_equal() -> None:
    model = chaotic(0)
    assert growth.check_equivalence(model, model, tokens=128, device="cpu").equal
    grown = growth.widen(model, width=2, noise=1, verify_inputs={"input_ids": torch.arange(8)[None]})
    assert growth.check_equivalence(model, grown.model, tokens=128, device="cpu").equal


def test_the_command_fails(grow: Grow, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 7)):
        chaotic(seed).save_pretrained(tmp_path / name)
    result = grow("verify", tmp_path / "a", tmp_path / "b", "--tokens", 128)
    assert result.code == 1 and "NOT RESOLVED" in result.out
