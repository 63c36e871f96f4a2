"""A model_type without a declaration: grown by one that fits in every part and whose twin computes the
same, refused otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import growth
from growth import architectures
from growth.checkpoint.preview import plan_widening
from growth.errors import UnsupportedModelError
from growth.plan.options import Options
from growth.proof import lookalike
from growth.proof.lookalike import declaration
from growth.proof.miniature import build_exact, loud

SIZES = {
    "hidden_size": 48,
    "intermediate_size": 58,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 99,
}
SMALL = {**SIZES, "num_hidden_layers": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def config(model_type: str, model_class: str, **changes: Any) -> dict[str, Any]:
    assert model_type not in architectures.known()
    return {**AutoConfig.for_model(model_type, **SMALL, **changes).to_dict(), "architectures": [model_class]}


def test_a_known_block_under_another_name_is_grown(tmp_path: Path) -> None:
    raw = config("seed_oss", "SeedOssForCausalLM")
    model = build_exact(raw).float()
    loud(model)
    model.save_pretrained(tmp_path / "small")
    result = growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", attention="head-dim", noise=0.1)
    assert any("model_type 'seed_oss' is not declared; it looks like 'llama'" in note for note in result.plan.notes)
    assert result.proof.twin.ok and result.proof.twin.difference <= 1e-10
    small, wide = (AutoModelForCausalLM.from_pretrained(tmp_path / name).eval() for name in ("small", "wide"))
    ids = torch.randint(3, 99, (2, 9), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(wide(ids).logits, small(ids).logits, atol=1e-4, rtol=1e-4)
    assert growth.check_equivalence(tmp_path / "small", tmp_path / "wide", tokens=16).equal
    assert growth.widen(small).plan.declared.looks_like == "llama"


def test_an_encoder_too() -> None:
    raw = {**AutoConfig.for_model("data2vec-text").to_dict(), "architectures": ["Data2VecTextForMaskedLM"]}
    assert declaration(raw, Options()).looks_like in ("roberta", "xlm-roberta", "camembert")


@pytest.mark.parametrize(
    ("model_type", "model_class", "says"),
    [
        ("lfm2", "Lfm2ForCausalLM", ("tensor 'layers.*.", "does not fit")),
        ("mamba", "MambaForCausalLM", ("no declaration can read its config", "num_attention_heads")),
        ("diffllama", "DiffLlamaForCausalLM", ("tensor 'layers.*.self_attn.lambda_k1' of shape",)),
    ],
)
def test_what_does_not_fit_is_named(model_type: str, model_class: str, says: tuple[str, ...]) -> None:
    raw = {**AutoConfig.for_model(model_type).to_dict(), "architectures": [model_class]}
    with pytest.raises(
        UnsupportedModelError, match=f"no architecture is declared for model_type '{model_type}'"
    ) as caught:
        plan_widening(raw)
    assert all(part in str(caught.value) for part in says), caught.value


def test_an_irrelevant_candidate_is_not_named() -> None:
    """Mamba with the fields of a Llama: many declarations can read the config, and each describes one
    tensor, the final norm."""
    raw = {"model_type": "mamba", "architectures": ["MambaForCausalLM"], **SMALL, "rms_norm_eps": 1e-5}
    with pytest.raises(
        UnsupportedModelError, match="and the nearest declaration describes 1 of its 23 tensors"
    ) as caught:
        plan_widening(raw)
    assert not any(f"'{name}'" in str(caught.value) for name in architectures.known()), caught.value


def test_an_unsupported_field_of_the_unknown_class_is_named_and_can_be_accepted() -> None:
    raw = {**config("seed_oss", "SeedOssForCausalLM"), "temperature_of_the_room": 21}
    with pytest.raises(UnsupportedModelError, match="config field 'temperature_of_the_room' is 21"):
        plan_widening(raw)
    assert plan_widening(raw, vouch=["temperature_of_the_room"]).declared.looks_like


def test_the_twin_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name, shape and field of this model fits a declaration with gains 1 + w, but its gains are
    w."""
    raw = config("arcee", "ArceeForCausalLM")
    assert declaration(raw, Options()).looks_like != "gemma"
    monkeypatch.setattr(architectures, "known", lambda: ["gemma"])
    with pytest.raises(
        UnsupportedModelError, match="every parameter fits 'gemma', but the twin does not compute the same"
    ):
        declaration(raw, Options())
    monkeypatch.setattr(lookalike, "_twin_difference", lambda *_: 0.0)
    assert declaration(raw, Options()).looks_like == "gemma"
