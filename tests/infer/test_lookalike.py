"""A model_type without a declaration: grown by one that fits in every part and whose twin computes the
same, refused otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import growth
from growth import architectures
from growth.checkpoint.preview import plan_widening
from growth.errors import IllegalGrowthError, UnsupportedModelError
from growth.infer import lookalike
from growth.infer.borrowed_trial import Trial
from growth.infer.declaration import declaration
from growth.plan.options import Options
from growth.proof.miniature import build_exact, loud
from support.small_models import llama

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


@pytest.mark.slow
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


def test_a_refused_choice_is_no_other_function() -> None:
    """Both were "another function": what refuses is a law, and it says what would do."""
    raw = config("ministral3", "Ministral3ForCausalLM")
    with pytest.raises(IllegalGrowthError, match=r"is not declared and grows like .*'yarn' depends on head_dim.*Use"):
        plan_widening(raw, width=2, attention="head-dim")
    assert plan_widening(raw, width=2).declared.looks_like
    sizes = {"d_model": 24, "encoder_ffn_dim": 20, "decoder_ffn_dim": 28, "vocab_size": 99}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_layers": 1, "decoder_layers": 1}
    small = AutoConfig.for_model("blenderbot-small", **sizes, **heads).to_dict()
    raw = {**small, "architectures": ["BlenderbotSmallForConditionalGeneration"]}
    with pytest.raises(IllegalGrowthError, match=r"Use a multiple of 24: 48\. The nearest") as caught:
        plan_widening(raw, width=1.5)
    listed = str(caught.value).partition("works: ")[2].rstrip(".").split(", ")
    assert plan_widening(raw, sizes={name: int(size) for name, size in (part.split() for part in listed)})


def test_what_no_declaration_fits_is_inferred() -> None:
    """Helium's o_proj is square, whatever the heads; SmolLM3's rules read a field that CWM has not."""
    for raw in (config("helium", "HeliumForCausalLM"), config("cwm", "CwmForCausalLM")):
        found = plan_widening(raw).declared
        assert found.looks_like is None and found.inferred


def test_a_file_of_another_model_is_judged_by_its_tensors(tmp_path: Path) -> None:
    model = llama()
    model.save_pretrained(tmp_path / "small")
    wrong = AutoConfig.for_model("mamba", hidden_size=24, num_hidden_layers=2, vocab_size=97).to_dict()
    (tmp_path / "small" / "config.json").write_text(json.dumps({**wrong, "architectures": ["MambaForCausalLM"]}))
    with pytest.raises(UnsupportedModelError) as caught:
        plan_widening(tmp_path / "small")
    told = "the file's tensors are not those of a MambaForCausalLM; each has a rule in "
    assert told in str(caught.value) and "Correct 'model_type'" in str(caught.value), caught.value


def test_an_unsupported_field_of_the_unknown_class_stands_in_the_way_of_a_look_alike() -> None:
    raw = {**config("seed_oss", "SeedOssForCausalLM"), "temperature_of_the_room": 21}
    assert plan_widening(raw).declared.inferred
    assert plan_widening(raw, vouch=["temperature_of_the_room"]).declared.looks_like


def test_the_twin_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name, shape and field of this model fits a declaration with gains 1 + w, but its gains are
    w."""
    raw = config("arcee", "ArceeForCausalLM")
    assert declaration(raw, Options()).looks_like != "gemma"
    monkeypatch.setattr(architectures, "known", lambda: ["gemma"])
    assert declaration(raw, Options()).inferred
    monkeypatch.setattr(lookalike, "trial", lambda *_: Trial(0.0))
    assert declaration(raw, Options()).looks_like == "gemma"
