"""Experts: in memory and on disk the same weights; the gate's logits as they were; layers that only
a checkpoint has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hf.test_tensor_names import assert_same
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel
from transformers.modeling_layers import MtpModel

import growth
from growth.plan.plan import TOLERANCE
from growth.proof.float64 import exact_arithmetic
from growth.proof.inputs import random_inputs
from growth.proof.miniature import VOCABULARY, build_exact, loud
from growth.proof.outputs import forward
from support.family_cases import load, small_config

DEEPSEEK = {"num_experts_per_tok": 2, "first_k_dense_replace": 1}
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("mixtral", "MixtralForCausalLM", {}),
    ("qwen3_moe", "Qwen3MoeForCausalLM", {"mlp_only_layers": [0]}),
    ("gpt_oss", "GptOssForCausalLM", {}),
    ("deepseek_v3", "DeepseekV3ForCausalLM", DEEPSEEK),
]
CHOICES: list[dict[str, Any]] = [{"width": 2}, {"width": 3, "scaling": "orthogonal", "attention": "head-dim"}]
every_case = pytest.mark.parametrize(
    ("model_type", "model_class", "changes"), CASES, ids=[model_type for model_type, _, _ in CASES]
)


def build(model_type: str, model_class: str, changes: dict[str, Any]) -> PreTrainedModel:
    model = build_exact(small_config(model_type, model_class, changes))
    loud(model, 3)
    return model


@every_case
@pytest.mark.parametrize("choice", CHOICES, ids=["heads", "head-dim"])
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)], ids=str)
def test_memory_and_disk_agree_bit_for_bit(
    model_type: str,
    model_class: str,
    changes: dict[str, Any],
    choice: dict[str, Any],
    dtype: torch.dtype,
    tmp_path: Path,
) -> None:
    with exact_arithmetic():
        model = build(model_type, model_class, changes)
    model.to(dtype).save_pretrained(tmp_path / "small")
    growth.widen(model, **choice, noise=0.3).model.save_pretrained(tmp_path / "memory")
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "disk", **choice, noise=0.3)
    memory, disk = (load_file(tmp_path / name / "model.safetensors") for name in ("memory", "disk"))
    assert_same(memory, disk)


@every_case
def test_the_gate_keeps_its_logits(model_type: str, model_class: str, changes: dict[str, Any]) -> None:
    with exact_arithmetic():
        model = build(model_type, model_class, changes)
        grown = growth.widen(model, width=3, noise=0.3).model
        before, after = (forward(each, random_inputs(model, VOCABULARY)) for each in (model, grown))
    logits = [name for name in before if "router_logits" in name]
    assert logits
    for name in logits:
        assert before[name].shape == after[name].shape and (before[name] - after[name]).abs().max() <= TOLERANCE


@pytest.mark.slow
def test_layers_that_draft(tmp_path: Path) -> None:
    """DeepSeek-V3 has 61 layers and one more in its checkpoint, which `MtpModel` finds by that
    number."""
    layers, model_class = 61, "DeepseekV3ForCausalLM"
    with exact_arithmetic():
        raw = {
            **small_config("deepseek_v3", model_class, DEEPSEEK),
            "num_hidden_layers": layers + 1,
            "first_k_dense_replace": layers - 1,
        }
        model = build_exact(raw)
        loud(model, 3)
        model.save_pretrained(tmp_path / "small")
        n, own = raw["hidden_size"], f"model.layers.{layers}"
        weights = load_file(tmp_path / "small" / "model.safetensors")
        weights |= {
            f"{own}.{name}.weight": 0.7 + 0.5 * torch.randn(n) for name in ("enorm", "hnorm", "shared_head.norm")
        }
        weights |= {
            f"{own}.eh_proj.weight": torch.randn(n, 2 * n) * n**-0.5,
            f"{own}.embed_tokens.weight": weights["model.embed_tokens.weight"],
        }
        weights[f"{own}.shared_head.head.weight"] = weights["lm_head.weight"]
        save_file(
            {name: value.contiguous().clone() for name, value in weights.items()},
            tmp_path / "small" / "model.safetensors",
        )
        written = json.loads((tmp_path / "small" / "config.json").read_text())
        (tmp_path / "small" / "config.json").write_text(json.dumps({**written, "num_hidden_layers": layers}))
        growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", width=3, noise=0.3)
        tokens = torch.randint(VOCABULARY, (2, 7), generator=torch.Generator().manual_seed(0))
        drafts = [_drafts(load(tmp_path / name, model_class), tokens) for name in ("small", "wide")]
    assert drafts[0].abs().max() > 0.1 and (drafts[0] - drafts[1]).abs().max() <= TOLERANCE


@torch.no_grad()
def _drafts(model: PreTrainedModel, tokens: torch.Tensor) -> torch.Tensor:
    """Logits of the tokens after next."""
    drafting = MtpModel.from_pretrained(model).to(torch.float64).eval()
    final = model(tokens, output_hidden_states=True).hidden_states[-1]
    positions = torch.arange(1, tokens.shape[1])[None]
    result = drafting.forward_layer(0, final[:, :-1], positions, None, input_ids=tokens[:, 1:])
    return drafting._project_to_logits(result)
