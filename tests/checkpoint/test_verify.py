"""The comparison of real models: equal for every family and head, not equal after small tampering
with any output."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM, MixtralConfig, MixtralForCausalLM, PreTrainedModel

import growth
from growth.checkpoint import provenance
from growth.checkpoint.verify import ORDER
from growth.errors import CheckpointError
from support.families import LANGUAGE_MODELS, OTHER_HEADS, Case, build
from support.small_models import bert, llama

CASES = {case.model_class: case for case in [*LANGUAGE_MODELS, *OTHER_HEADS]}


def one_of_each(cases: Iterable[Case]) -> list[Any]:
    """The first case of each family, the others as slow."""
    seen: set[str] = set()
    found: list[Any] = []
    for case in cases:
        found.append(pytest.param(case, marks=pytest.mark.slow) if case.model_type in seen else case)
        seen.add(case.model_type)
    return found


def plain(case: Case, **changes: object) -> PreTrainedModel:
    """Loud, in float32, with the small epsilon of real configs."""
    return build(case, **changes).to(torch.float32)  # type: ignore[call-arg]


@pytest.mark.parametrize("case", one_of_each(CASES.values()), ids=str)
def test_every_head_is_equal(case: Case, tmp_path: Path) -> None:
    plain(case).save_pretrained(tmp_path / "small")
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", attention="head-dim", noise=0.1)
    report = growth.check_equivalence(tmp_path / "small", tmp_path / "wide", tokens=60, device="cpu")
    assert report.equal and report.diverges_at is None, report


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "case",
    [*LANGUAGE_MODELS[:3], *(pytest.param(case, marks=pytest.mark.slow) for case in LANGUAGE_MODELS[3:])],
    ids=str,
)
def test_narrow_dtypes_are_equal(case: Case, dtype: str, tmp_path: Path) -> None:
    plain(case).to(getattr(torch, dtype)).save_pretrained(tmp_path / "small")  # type: ignore[call-arg]
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", noise=0.1)
    report = growth.check_equivalence(tmp_path / "small", tmp_path / "wide", tokens=60, device="cpu")
    assert report.equal and report.dtype == dtype


TAMPERED = [
    ("BertForQuestionAnswering", "qa_outputs.weight", 1, -3.0, "end_logits"),
    ("BertForPreTraining", "cls.seq_relationship.weight", 0, 5.0, "seq_relationship_logits"),
    ("BertModel", "pooler.dense.weight", 0, -1.0, "pooler_output"),
    ("GPT2DoubleHeadsModel", "multiple_choice_head.summary.weight", 0, -2.0, "mc_logits"),
    ("LlamaForCausalLM", "model.layers.1.mlp.down_proj.weight", 0, 1.01, "logits"),
    ("T5ForConditionalGeneration", "decoder.block.0.layer.0.SelfAttention.v.weight", 0, 1.01, "logits"),
]


@pytest.mark.parametrize(("name", "tensor", "row", "factor", "output"), TAMPERED, ids=lambda value: str(value))
def test_one_row_of_one_weight_is_seen(
    name: str, tensor: str, row: int, factor: float, output: str, tmp_path: Path
) -> None:
    plain(CASES[name]).save_pretrained(tmp_path / "small")
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide")
    weights = load_file(tmp_path / "wide" / "model.safetensors")
    weights[tensor][row] *= factor
    save_file(weights, tmp_path / "wide" / "model.safetensors", metadata={"format": "pt"})
    report = growth.check_equivalence(tmp_path / "small", tmp_path / "wide", tokens=60, device="cpu")
    assert not report.equal and report.output == output and output in report.outputs


def test_the_mean_sees_what_hides_below_the_largest_rounding(tmp_path: Path) -> None:
    plain(CASES["LlamaForCausalLM"]).to(torch.bfloat16).save_pretrained(tmp_path / "small")  # type: ignore[call-arg]
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide")
    weights = load_file(tmp_path / "wide" / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"] *= 1.15
    save_file(weights, tmp_path / "wide" / "model.safetensors", metadata={"format": "pt"})
    report = growth.check_equivalence(tmp_path / "small", tmp_path / "wide", tokens=300, device="cpu")
    assert report.difference.largest <= ORDER * report.floor.largest and not report.equal


def test_another_ancestor_is_compared_by_what_does_not_grow(tmp_path: Path) -> None:
    plain(CASES["LlamaForCausalLM"]).save_pretrained(tmp_path / "a")
    growth.widen_checkpoint(tmp_path / "a", tmp_path / "b")
    growth.widen_checkpoint(tmp_path / "b", tmp_path / "c")
    report = growth.check_equivalence(tmp_path / "a", tmp_path / "c", tokens=60, device="cpu")
    assert report.equal and report.outputs == ("logits",)


def retrained(folder: Path, target: Path) -> Path:
    """A copy of a folder with the same config and other weights."""
    shutil.copytree(folder, target)
    weights = load_file(target / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"] += 0.01
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target


def grown_from(a: Path | PreTrainedModel, b: Path) -> str | None:
    report = growth.check_equivalence(a, b, tokens=60, device="cpu")
    assert not report.equal
    assert report.to_json()["grown_from"] == report.grown_from
    return report.grown_from


@pytest.mark.slow
def test_a_folder_that_was_grown_from_another_model_is_recognised(tmp_path: Path) -> None:
    plain(CASES["LlamaForCausalLM"]).save_pretrained(tmp_path / "small")
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide")
    other = retrained(tmp_path / "small", tmp_path / "other")
    assert grown_from(other, tmp_path / "wide") == "small"
    changed = retrained(tmp_path / "wide", tmp_path / "changed")  # it was grown from small, and trained since
    assert grown_from(tmp_path / "small", changed) is None
    assert grown_from(LlamaForCausalLM.from_pretrained(other), tmp_path / "wide") is None  # not known
    for record in ("[]", "{}", '{"source": 3}', "not JSON"):
        (tmp_path / "wide" / "growth.json").write_text(record)
        assert grown_from(other, tmp_path / "wide") is None
    (tmp_path / "wide" / "growth.json").unlink()
    assert grown_from(other, tmp_path / "wide") is None


def test_comparing_configs_alone_misses_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = provenance.open_checkpoint
    monkeypatch.setattr(provenance, "open_checkpoint", lambda folder: replace(opened(folder), weight_files=[]))
    with pytest.raises(AssertionError):
        test_a_folder_that_was_grown_from_another_model_is_recognised(tmp_path)


def test_models_in_memory_with_their_plan() -> None:
    small = plain(CASES["BertModel"])
    before = {name: value.clone() for name, value in small.state_dict().items()}
    grown = growth.widen(small, width=3, noise=0.2)
    with pytest.raises(growth.CheckpointError, match="it is not known how they map"):
        growth.check_equivalence(small, grown.model, tokens=60, device="cpu")
    report = growth.check_equivalence(small, grown.model, tokens=60, device="cpu", plan=grown.plan)
    assert report.equal and set(report.outputs) == {"last_hidden_state", "pooler_output"}
    assert all(torch.equal(before[name], value) for name, value in small.state_dict().items())


def test_rounded_weights_seen_in_a_finer_dtype_are_explained(tmp_path: Path) -> None:
    plain(CASES["LlamaForCausalLM"]).to(torch.bfloat16).save_pretrained(tmp_path / "a")  # type: ignore[call-arg]
    growth.widen_checkpoint(tmp_path / "a", tmp_path / "b", width=3, symmetry="none")  # thirds
    report = growth.check_equivalence(tmp_path / "a", tmp_path / "b", tokens=60, device="cpu", dtype="float32")
    assert not report.equal and report.weights_dtype == "bfloat16"


def test_a_last_hidden_state_that_turned_is_seen(tmp_path: Path) -> None:
    """What noise did to the gain before a tied head: the copies add up as before, and point elsewhere."""
    plain(CASES["LlamaForCausalLM"], tied=True).save_pretrained(tmp_path / "small")
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", noise=1)
    found = growth.check_equivalence(tmp_path / "small", tmp_path / "wide", tokens=60, device="cpu")
    assert found.equal and not found.turned and found.cosines is not None
    assert found.cosines.difference.largest < 1e-5 and "cosines between last hidden states move by up to" in str(found)
    weights = load_file(tmp_path / "wide" / "model.safetensors")
    gain = weights["model.norm.weight"]
    moved = 0.5 * torch.linspace(-1, 1, len(gain) // 2) * gain[: len(gain) // 2].abs().mean()
    weights["model.norm.weight"] = gain + torch.cat([moved, -moved])
    save_file(weights, tmp_path / "wide" / "model.safetensors", metadata={"format": "pt"})
    report = growth.check_equivalence(tmp_path / "small", tmp_path / "wide", tokens=60, device="cpu")
    assert report.equal and report.turned and report.diverges_at is not None
    assert "THEY CHANGE, do not take them for embeddings" in str(report) and report.to_json()["turned"] is True


def test_a_source_named_second_is_told(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path / "small")
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide")
    with pytest.raises(CheckpointError, match=r"wide was grown from .*small, by its growth.json. Name the source fir"):
        growth.check_equivalence(tmp_path / "wide", tmp_path / "small")


def test_what_transformers_cannot_run_is_said(tmp_path: Path) -> None:
    """And what an old config asks for, tuples, is no hindrance; random numbers stay the caller's."""
    bert().save_pretrained(tmp_path / "small")
    path, before = tmp_path / "small" / "config.json", torch.get_rng_state()
    text = path.read_text()
    path.write_text(text.replace("{", '{"return_dict": false,', 1))
    assert growth.check_equivalence(tmp_path / "small", tmp_path / "small", tokens=20).equal
    path.write_text(text.replace('"hidden_dropout_prob": 0.1', '"hidden_dropout_prob": -0.1'))
    with pytest.raises(growth.GrowthError, match=r"\(ValueError: .*-0\.1\)\. Check config\.json\."):
        growth.check_equivalence(tmp_path / "small", tmp_path / "small", tokens=20)
    assert torch.equal(torch.get_rng_state(), before)


def test_experts_of_sizes_that_no_fused_kernel_takes(tmp_path: Path) -> None:
    """Rows of a number of bytes that is no multiple of 16."""
    sizes = {"hidden_size": 18, "intermediate_size": 29, "num_attention_heads": 3, "num_key_value_heads": 3}
    config = MixtralConfig(**sizes, num_hidden_layers=1, vocab_size=41, num_local_experts=3)
    MixtralForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path / "small")
    assert growth.check_equivalence(tmp_path / "small", tmp_path / "small", tokens=20).equal
