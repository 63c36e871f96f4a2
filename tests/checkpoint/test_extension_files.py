"""More layers, and a head of its own, for every way in which a checkpoint may lie on disk."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)
from transformers.modeling_layers import MtpModel

import growth
from growth.hf.reader import Checkpoint
from growth.proof.float64 import exact_arithmetic
from support.small_models import SIZES, llama

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
DEEPER: dict[str, Any] = {"layers": 4, "width": 2}


def gpt2() -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"n_embd": 24, "n_head": 4, "n_layer": 2, "vocab_size": 60, "n_positions": 64}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=1, eos_token_id=2)).eval()


def tied() -> PreTrainedModel:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **SIZES, tie_word_embeddings=True)
    ).eval()


def rewritten(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    path = folder / "model.safetensors"
    save_file({name: value.clone() for name, value in change(load_file(path)).items()}, path, {"format": "pt"})


def shards_of_bin(folder: Path) -> None:
    """As transformers 4 saved: several ``pytorch_model-*.bin`` and an index."""
    held = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = {name: f"pytorch_model-{1 + number % 2:05}-of-00002.bin" for number, name in enumerate(held)}
    for file in {*files.values()}:
        torch.save({name: value for name, value in held.items() if files[name] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))


def counted_as_one(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_hidden_layers": 1}))


FOLDERS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "shards of .bin": (llama, shards_of_bin, DEEPER),
    "names without the prefix, untied": (
        gpt2,
        lambda folder: rewritten(folder, lambda w: {k.removeprefix("transformer."): v for k, v in w.items()}),
        {**DEEPER, "untie": True},
    ),
    "a wrapper's names": (
        llama,
        lambda folder: rewritten(folder, lambda w: {f"module.{k}": v for k, v in w.items()}),
        DEEPER,
    ),
    "a layer beyond the config": (llama, counted_as_one, {"layers": 3}),
    "a tied matrix under both names, untied": (
        tied,
        lambda folder: rewritten(folder, lambda w: {**w, HEAD: w[EMBEDDING]}),
        {**DEEPER, "untie": True},
    ),
    "a tied matrix under the head's name": (
        tied,
        lambda folder: rewritten(folder, lambda w: {HEAD if k == EMBEDDING else k: v for k, v in w.items()}),
        DEEPER,
    ),
    "a tied matrix under the head's name, untied": (
        tied,
        lambda folder: rewritten(folder, lambda w: {HEAD if k == EMBEDDING else k: v for k, v in w.items()}),
        {**DEEPER, "untie": True},
    ),
}


SLOW = ("a wrapper's names", "a tied matrix under the head's name")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in FOLDERS]
)
def test_every_kind_of_folder(name: str, tmp_path: Path) -> None:
    build, change, choices = FOLDERS[name]
    build().save_pretrained(tmp_path / "small")
    change(tmp_path / "small")
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "deep", max_shard_size="40KB", **choices)
    report = growth.check_equivalence(tmp_path / "small", tmp_path / "deep", tokens=60, device="cpu", dtype="float32")
    assert report.equal and report.diverges_at is None and not report.turned, report
    assert json.loads((tmp_path / "deep" / "config.json").read_text()).get("tie_word_embeddings", False) is (
        build is tied and "untie" not in choices
    )


def test_each_copy_reads_its_tensor_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the bar ends where it should."""
    llama().save_pretrained(tmp_path / "small")
    reads: Counter[str] = Counter()
    read, seen = Checkpoint.read, []
    monkeypatch.setattr(Checkpoint, "read", lambda self, name: (reads.update([name]), read(self, name))[1])
    result = growth.widen_checkpoint(
        tmp_path / "small",
        tmp_path / "deep",
        layers=5,
        insert="after:0,0,1",
        progress=lambda done, total, name: seen.append((done, total, name)),
    )
    assert {name: count for name, count in reads.items() if count > 1} == {
        name: 3 if ".layers.0." in name else 2 for name in reads if ".layers." in name
    }
    written = load_file(tmp_path / "deep" / "model.safetensors")
    assert seen[-1][:2] == (result.bytes_after,) * 2 == (sum(value.nbytes for value in written.values()),) * 2
    assert {name for _, _, name in seen} == written.keys()


DEEPSEEK: dict[str, Any] = {
    **{"vocab_size": 60, "hidden_size": 24, "intermediate_size": 40, "moe_intermediate_size": 16},
    **{"num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4, "n_routed_experts": 4},
    **{"n_group": 2, "topk_group": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1, "kv_lora_rank": 16},
    **{"q_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8, "num_mtp_layers": 1},
}


@torch.no_grad()
def drafts(folder: Path, layer: int, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Logits of the tokens after next, by the layer that drafts."""
    with monkeypatch.context() as patched:  # the class finds the one of DeepSeek-V3 itself only, by its number
        patched.setattr(DeepseekV3ForCausalLM, "_keys_to_ignore_on_load_unexpected", [rf"model\.layers\.{layer}.*"])
        model = DeepseekV3ForCausalLM.from_pretrained(
            folder, dtype=torch.float64, experts_implementation="eager"
        ).eval()
        drafting = MtpModel.from_pretrained(model).to(torch.float64).eval()
    tokens = torch.randint(60, (2, 7), generator=torch.Generator().manual_seed(0))
    final = model(tokens, output_hidden_states=True).hidden_states[-1]
    result = drafting.forward_layer(0, final[:, :-1], torch.arange(1, 7)[None], None, input_ids=tokens[:, 1:])
    return drafting._project_to_logits(result)


def test_layers_that_draft_stand_behind_the_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    DeepseekV3ForCausalLM(DeepseekV3Config(**DEEPSEEK)).save_pretrained(tmp_path / "small")

    def with_drafts(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        drafting = {name.replace("layers.2", "layers.3"): v for name, v in weights.items() if "layers.2." in name}
        gains = {
            f"model.layers.3.{name}.weight": torch.rand(24) + 0.5 for name in ("enorm", "hnorm", "shared_head.norm")
        }
        shared = {
            "embed_tokens": weights[EMBEDDING],
            "shared_head.head": weights[HEAD],
            "eh_proj": torch.randn(24, 48),
        }
        return {**weights, **drafting, **gains, **{f"model.layers.3.{name}.weight": v for name, v in shared.items()}}

    rewritten(tmp_path / "small", with_drafts)
    result = growth.widen_checkpoint(tmp_path / "small", tmp_path / "deep", layers=5, width=2)
    assert any(note.startswith("layer 3 in the weights, which the config") for note in result.plan.notes)
    with exact_arithmetic():
        before, after = drafts(tmp_path / "small", 3, monkeypatch), drafts(tmp_path / "deep", 5, monkeypatch)
    assert before.abs().max() > 0.01 and (before - after).abs().max() <= 1e-10


def test_settings_that_name_layers_by_number_are_said(tmp_path: Path) -> None:
    model = llama()
    model.generation_config.assistant_early_exit = 1
    model.save_pretrained(tmp_path / "small")
    said = "its assistant_early_exit (1) names layers by their number"
    result = growth.widen_checkpoint(tmp_path / "small", tmp_path / "deep", layers=3)
    assert sum(said in note for note in result.plan.notes) == 1
    assert sum(said in note for note in growth.plan_widening(tmp_path / "small", layers=3).notes) == 1
    assert not any(said in note for note in growth.plan_widening(tmp_path / "small", width=2).notes)
    assert (tmp_path / "deep" / "generation_config.json").read_bytes() == (
        tmp_path / "small" / "generation_config.json"
    ).read_bytes()
