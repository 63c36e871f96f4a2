"""What growth.json, the model card and the plan say of new layers and a head of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM, PreTrainedModel

import growth
from growth.cli.main import grow
from support.small_models import llama


def test_growth_json_is_enough_to_grow_again(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path / "small")
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "deep", layers=4, width=2, insert="after:0,0", noise=0.5)
    record = json.loads((tmp_path / "deep" / "growth.json").read_text())
    plan = record["plan"]
    assert plan["sizes"]["num_hidden_layers"] == [2, 4]
    assert plan["extension"] == {
        "layers": [{"list": "layers", "origins": [0, 0, 0, 1], "kept": [0, 3]}],
        "copies": [],
        "silent": True,
        "untied": False,
    }
    tensors = {row["name"]: row for row in plan["tensors"]}
    written, copied = (tensors[f"model.layers.1.mlp.{name}_proj.weight"] for name in ("down", "up"))
    assert (written["source"], written["fill"]) == ("model.layers.0.mlp.down_proj.weight", 0.0)
    assert (copied["source"], copied["fill"], copied["old"]) == ("model.layers.0.mlp.up_proj.weight", None, [40, 24])
    assert tensors["model.layers.3.mlp.up_proj.weight"]["source"] == "model.layers.1.mlp.up_proj.weight"

    growth.widen_checkpoint(tmp_path / "small", tmp_path / "again", **plan["options"])
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "deep" / name).read_bytes()
    card = (tmp_path / "deep" / "README.md").read_text()
    assert "| num_hidden_layers | 2 | 4 |" in card and "insert after:0,0" in card
    assert (
        "\nNew in layers: 1 (a silent copy of 0), 2 (a silent copy of 0); those that were there are now 0, 3.\n"
        in card
    )


EXPERTS: dict[str, Any] = {"experts": 6, "experts_per_token": 4, "layers": 3, "kv_heads": 4, "noise": 0.5}
SMALL = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 60,
}
LARGE = {**SMALL, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 5, "num_attention_heads": 8}

FINER: dict[str, Any] = {"experts": 6, "experts_per_token": 4, "expert_size": 16}


def mixtral(**sizes: Any) -> PreTrainedModel:
    return MixtralForCausalLM(MixtralConfig(**{**SMALL, "num_key_value_heads": 2, "num_local_experts": 3, **sizes}))


@pytest.mark.parametrize(
    "choices",
    [EXPERTS, pytest.param({"like": "large"}, marks=pytest.mark.slow), pytest.param(FINER, marks=pytest.mark.slow)],
    ids=lambda choices: "-".join(choices),
)
def test_whatever_was_added_is_added_again(
    choices: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mixtral().save_pretrained("small")
    mixtral(**LARGE).save_pretrained("large")
    growth.widen_checkpoint("small", "grown", **choices)
    shutil.rmtree("large")
    growth.widen_checkpoint("small", "again", **json.loads(Path("grown/growth.json").read_text())["plan"]["options"])
    for name in ("model.safetensors", "config.json"):
        assert Path("again", name).read_bytes() == Path("grown", name).read_bytes()
    report = growth.check_equivalence("small", "grown", tokens=60, device="cpu", dtype="float32")
    assert report.equal and report.diverges_at is None and not report.turned


def test_an_untied_head_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {"n_embd": 24, "n_head": 4, "n_layer": 1, "vocab_size": 60, "n_positions": 32}
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=1, eos_token_id=2)).save_pretrained(tmp_path / "small")
    grow(["plan", str(tmp_path / "small"), "--untie", "--json"], standalone_mode=False)
    plan = json.loads(capsys.readouterr().out)
    assert plan["extension"] == {"layers": [], "copies": [], "silent": True, "untied": True}
    assert plan["config_changes"]["tie_word_embeddings"] == [True, False]
    assert {row["name"]: row["source"] for row in plan["tensors"]}["lm_head.weight"] == "transformer.wte.weight"
    grow(["plan", str(tmp_path / "small"), "--untie", "--layers", "2", "--verbose"], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    table = {line.split()[0]: line.split()[1:3] for line in lines if len(line.split()) > 3}
    assert table["tensor"] == ["from", "old"]
    assert table["lm_head.weight"][0] == "transformer.wte.weight"
    assert table["transformer.h.1.mlp.c_proj.weight"] == ["all", "0"] and table["transformer.wte.weight"][0] == "-"
    assert any(
        line.strip().startswith("new in h: 1 (a silent copy of 0); those that were there are now 0") for line in lines
    )
