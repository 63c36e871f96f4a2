"""Peculiarities of hub checkpoints: tokenizer files of every kind, old class names, unused config fields,
tensors kept in float32, no class named at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig

import growth
from growth.checkpoint.preview import plan_widening
from growth.errors import CheckpointError, IllegalGrowthError, UnsupportedModelError
from growth.hf.model_classes import class_is_guessed, class_of
from growth.proof.miniature import build_exact, loud
from support.family_cases import small_config


def saved(folder: Path, model_type: str, kind: str) -> Path:
    model = build_exact(small_config(model_type, kind, {})).float()
    loud(model)
    model.save_pretrained(folder)
    return folder


def test_tokenizer_files_of_every_kind_come_along(tmp_path: Path) -> None:
    source = saved(tmp_path / "small", "marian", "MarianMTModel")
    names = (
        "source.spm",
        "target.spm",
        "vocab.json",
        "target_vocab.json",
        "bpe.codes",
        "dict.txt",
        "normalizer.json",
        "qwen.tiktoken",
    )
    for name in names:
        (source / name).write_text("{}")
    result = growth.widen_checkpoint(source, tmp_path / "wide")
    assert set(names) <= {path.name for path in (tmp_path / "wide").iterdir()} and not result.left_behind


def test_tensors_that_the_class_keeps_in_float32_are_not_converted(tmp_path: Path) -> None:
    raw = {**small_config("deepseek_v3", "DeepseekV3ForCausalLM", {})}
    model = build_exact(raw).float()
    loud(model)
    model.save_pretrained(tmp_path / "small")
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", dtype="bfloat16")
    small, wide = (load_file(tmp_path / name / "model.safetensors") for name in ("small", "wide"))
    bias = next(name for name in small if name.endswith("e_score_correction_bias"))
    assert wide[bias].dtype is torch.float32 and torch.equal(wide[bias], small[bias])
    assert wide["lm_head.weight"].dtype is torch.bfloat16


def test_old_class_names_are_read() -> None:
    raw = {**AutoConfig.for_model("t5").to_dict(), "architectures": ["T5WithLMHeadModel"]}
    assert class_of(raw).__name__ == "T5ForConditionalGeneration"
    with pytest.raises(UnsupportedModelError, match="no model class 'T5WithLMHeadModels'"):
        class_of({**raw, "architectures": ["T5WithLMHeadModels"]})


def test_a_config_without_architectures_is_a_guess() -> None:
    raw = AutoConfig.for_model("llama").to_dict()
    for nothing in ({}, {"architectures": None}, {"architectures": []}):
        guessed = {name: value for name, value in raw.items() if name != "architectures"} | nothing
        assert class_is_guessed(guessed) and class_of(guessed).__name__ == "LlamaModel"
    assert not class_is_guessed({**raw, "architectures": ["LlamaForCausalLM"]})


@pytest.mark.parametrize(
    ("model_type", "kind", "field", "value"),
    [
        ("llama", "LlamaForCausalLM", "pretraining_tp", 2),
        ("llama", "LlamaForCausalLM", "max_sequence_length", 2048),
        ("bert", "BertModel", "emb_size", 312),
        ("opt", "OPTForCausalLM", "output_projection", True),
    ],
)
def test_fields_that_no_code_reads_are_supported_at_any_value(
    model_type: str, kind: str, field: str, value: object
) -> None:
    raw = small_config(model_type, kind, {})
    assert plan_widening({**raw, field: value}).config_changes
    with pytest.raises(UnsupportedModelError, match=f"'{field}x' is"):
        plan_widening({**raw, f"{field}x": value})


def test_vouch_must_name_a_field_of_the_config() -> None:
    with pytest.raises(UnsupportedModelError, match="vouch names 'hidden_akt', but there is no such config field"):
        plan_widening(small_config("llama", "LlamaForCausalLM", {}), vouch=["hidden_akt"])


def test_rotary_pairs_that_are_divided_by_number_are_not_grown() -> None:
    raw = small_config("llama", "LlamaForCausalLM", {})
    raw["rope_parameters"] = {**raw["rope_parameters"], "mrope_section": [1, 1, 1]}
    assert plan_widening(raw)
    with pytest.raises(IllegalGrowthError, match="'mrope_section' shares the pairs of a head out by number"):
        plan_widening(raw, attention="head-dim")


def test_a_text_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    source = saved(tmp_path / "small", "llama", "LlamaForCausalLM")
    growth.widen_checkpoint(source, tmp_path / "wide")
    with pytest.raises(CheckpointError, match="small has no tokenizer, or its tokenizer makes fewer than two"):
        growth.check_equivalence(source, tmp_path / "wide", text="It is a truth universally acknowledged.")


def test_changes_inside_a_nested_config_are_named_one_by_one() -> None:
    changes = plan_widening(small_config("clip", "CLIPModel", {})).config_changes
    assert {"text_config.hidden_size", "vision_config.hidden_size"} <= changes.keys() and "text_config" not in changes
