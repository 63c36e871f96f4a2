"""Folders in, folders out: formats, dialects, old spellings, companions, shards, dtypes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, BertModel, PreTrainedModel

import growth
from growth.checkpoint.safetensors_writer import SafetensorsWriter
from growth.hf.config_json import edited
from support.families import LANGUAGE_MODELS, VOCABULARY, Case, build

CASES = {case.model_type: case for case in LANGUAGE_MODELS}


def saved(case: Case, folder: Path, dtype: torch.dtype = torch.float32, **changes: Any) -> Path:
    build(case, **changes).to(dtype).save_pretrained(folder)  # type: ignore[call-arg]
    return folder


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return saved(CASES["llama"], tmp_path / "small")


def logits(model: PreTrainedModel) -> torch.Tensor:
    ids = torch.randint(0, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output: torch.Tensor = model.eval()(input_ids=ids).logits
    return output


def same_logits(a: Path, b: Path, auto: type = AutoModelForCausalLM) -> None:
    x, y = (logits(auto.from_pretrained(folder, dtype=torch.float32)) for folder in (a, b))  # type: ignore[attr-defined]
    torch.testing.assert_close(x, y, rtol=0, atol=2e-5 * float(x.abs().max()))


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def digest(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }


def test_the_source_is_only_read_and_the_record_names_its_hashes(llama: Path, tmp_path: Path) -> None:
    before = digest(llama)
    growth.widen_checkpoint(llama, tmp_path / "wide", noise=0.1, seed=3)
    assert digest(llama) == before
    record = json.loads((tmp_path / "wide" / "growth.json").read_text())
    assert record["source"]["sha256"] == {name: before[name] for name in ("config.json", "model.safetensors")}
    assert record["plan"]["options"]["symmetry"] == "noise:0.1" and record["plan"]["options"]["seed"] == 3
    assert record["proof"]["twin"]["difference"] <= 1e-10 and record["proof"]["fold"]["tensors"] == len(
        record["plan"]["tensors"]
    )
    assert {"growth", "torch", "transformers"} <= record["versions"].keys()


def test_same_seed_same_bytes_whatever_the_shards(llama: Path, tmp_path: Path) -> None:
    growth.widen_checkpoint(llama, tmp_path / "one", noise=0.1)
    result = growth.widen_checkpoint(llama, tmp_path / "many", noise=0.1, max_shard_size="20KB")
    shards = sorted((tmp_path / "many").glob("*.safetensors"))
    assert len(shards) > 3 and "model.safetensors.index.json" in result.files
    whole = load_file(tmp_path / "one" / "model.safetensors")
    parts = {name: value for shard in shards for name, value in load_file(shard).items()}
    assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole)
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == whole.keys()
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in whole.values())
    same_logits(llama, tmp_path / "many")
    growth.widen_checkpoint(tmp_path / "many", tmp_path / "again", width=2)
    same_logits(llama, tmp_path / "again")
    growth.widen_checkpoint(llama, tmp_path / "bytes", noise=0.1, max_shard_size=20_000)
    assert digest(tmp_path / "bytes").keys() == digest(tmp_path / "many").keys()
    with pytest.raises(growth.CheckpointError, match="has no unit"):
        growth.widen_checkpoint(llama, tmp_path / "typed", max_shard_size="20000")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_every_dtype_is_kept_and_doubling_is_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    saved(CASES["llama"], tmp_path / "small", dtype)
    result = growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide")
    assert all(t.exact for t in result.plan.tensors.values())
    assert result.proof.fold.exact or (
        dtype == torch.float16 and result.proof.fold.error <= 2**-24
    )  # half of a subnormal float16
    assert {value.dtype for value in load_file(tmp_path / "wide" / "model.safetensors").values()} == {dtype}


def test_mixed_dtypes_stay_and_dtype_converts(llama: Path, tmp_path: Path) -> None:
    weights = load_file(llama / "model.safetensors")
    mixed = {name: value if "norm" in name else value.to(torch.bfloat16) for name, value in weights.items()}
    save_file(mixed, llama / "model.safetensors", metadata={"format": "pt"})
    growth.widen_checkpoint(llama, tmp_path / "wide")
    kept = load_file(tmp_path / "wide" / "model.safetensors")
    assert {name: value.dtype for name, value in kept.items()} == {name: value.dtype for name, value in mixed.items()}
    growth.widen_checkpoint(llama, tmp_path / "half", dtype="float16")
    assert {value.dtype for value in load_file(tmp_path / "half" / "model.safetensors").values()} == {torch.float16}
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "float16"


def test_bert_without_pooler(tmp_path: Path) -> None:
    model = BertModel(build(CASES["bert"]).config, add_pooling_layer=False)
    model.save_pretrained(tmp_path / "small")
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide")
    assert not any("pooler" in name for name in load_file(tmp_path / "wide" / "model.safetensors"))
    wide = BertModel.from_pretrained(tmp_path / "wide", add_pooling_layer=False)
    grown = growth.widen(model, width=2).model
    assert grown.pooler is None and grown.state_dict().keys() == wide.state_dict().keys()
    assert growth.check_equivalence(tmp_path / "small", tmp_path / "wide", tokens=32, device="cpu").equal


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_old_bin_files_with_old_spellings_and_without_prefix(legacy: bool, tmp_path: Path) -> None:
    """gamma and beta, no ``bert.``, the tied decoder stored again, a position_ids buffer: as in
    files from 2019."""
    saved(CASES["bert"], tmp_path / "new", tied=True)
    weights = load_file(tmp_path / "new" / "model.safetensors")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in weights.items()
    }
    old["cls.predictions.decoder.weight"] = old["bert.embeddings.word_embeddings.weight"]
    old["bert.embeddings.position_ids"] = torch.arange(40)[None]
    (tmp_path / "small").mkdir()
    shutil.copy(tmp_path / "new" / "config.json", tmp_path / "small")
    torch.save(old, tmp_path / "small" / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    result = growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide")
    assert "bert.embeddings.position_ids" in result.plan.left_out
    same_logits(tmp_path / "new", tmp_path / "wide", AutoModelForMaskedLM)
    bare = {name.removeprefix("bert."): value for name, value in weights.items() if name.startswith("bert.")}
    (tmp_path / "bare").mkdir()
    torch.save(bare, tmp_path / "bare" / "pytorch_model.bin")
    shutil.copy(tmp_path / "new" / "config.json", tmp_path / "bare")
    edit(tmp_path / "bare" / "config.json", lambda c: c.update(architectures=["BertModel"]))
    growth.widen_checkpoint(tmp_path / "bare", tmp_path / "bare2")
    _, info = AutoModel.from_pretrained(tmp_path / "bare2", output_loading_info=True)
    assert set(info["missing_keys"]) <= {"pooler.dense.weight", "pooler.dense.bias"}


def test_gpt2_without_prefix_and_with_mask_buffers(tmp_path: Path) -> None:
    saved(CASES["gpt2"], tmp_path / "new")
    weights = {
        name.removeprefix("transformer."): value
        for name, value in load_file(tmp_path / "new" / "model.safetensors").items()
    }
    weights |= {f"h.{i}.attn.bias": torch.ones(1, 1, 40, 40) for i in range(2)}
    (tmp_path / "small").mkdir()
    save_file(weights, tmp_path / "small" / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(tmp_path / "new" / "config.json", tmp_path / "small")
    result = growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", attention="head-dim", noise=0.1)
    assert result.plan.left_out == ("h.0.attn.bias", "h.1.attn.bias")
    same_logits(tmp_path / "new", tmp_path / "wide")


def test_the_dialect_of_transformers_4_stays(llama: Path, tmp_path: Path) -> None:
    def older(config: dict[str, Any]) -> None:
        rope = config.pop("rope_parameters")
        config |= {
            "rope_theta": 777.0,
            "rope_scaling": None,
            "torch_dtype": config.pop("dtype"),
            "transformers_version": "4.44.0",
        }
        assert rope

    edit(llama / "config.json", older)
    growth.widen_checkpoint(llama, tmp_path / "wide", attention="head-dim", dtype="float64")
    config = json.loads((tmp_path / "wide" / "config.json").read_text())
    assert config["rope_theta"] == 777.0 and config["rope_scaling"] is None and config["torch_dtype"] == "float64"
    assert "rope_parameters" not in config and "dtype" not in config and config["transformers_version"] == "4.44.0"
    same_logits(llama, tmp_path / "wide")
    growth.widen_checkpoint(llama, tmp_path / "pairs", attention="head-dim", rope="pairs")
    config = json.loads((tmp_path / "pairs" / "config.json").read_text())
    assert (
        config["rope_scaling"]["rope_type"] == "longrope"
        and "rope_theta" not in config["rope_scaling"]
        and config["rope_theta"] == 777.0
    )
    same_logits(llama, tmp_path / "pairs")


def test_only_changed_fields_are_edited(llama: Path, tmp_path: Path) -> None:
    old = json.loads((llama / "config.json").read_text())
    growth.widen_checkpoint(llama, tmp_path / "wide")
    new = json.loads((tmp_path / "wide" / "config.json").read_text())
    changed = {name for name in old | new if old.get(name) != new.get(name)}
    assert changed == {"hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"} and list(
        old
    ) == list(new)


def test_implied_fields_stay_implied_and_are_spelled_out_where_they_must() -> None:
    gpt2 = {
        "model_type": "gpt2",
        "n_embd": 12,
        "n_head": 3,
        "n_layer": 1,
        "vocab_size": 9,
        "architectures": ["GPT2LMHeadModel"],
    }
    plan = growth.plan_widening(gpt2)
    assert plan.new_config == {**gpt2, "n_embd": 24, "n_head": 6}
    llama = {
        "model_type": "llama",
        "hidden_size": 24,
        "num_attention_heads": 3,
        "intermediate_size": 20,
        "vocab_size": 9,
        "num_hidden_layers": 1,
    }
    llama |= {"architectures": ["LlamaForCausalLM"]}
    assert "head_dim" not in growth.plan_widening(llama, attention="head-dim").new_config
    assert (
        growth.plan_widening({**llama, "intermediate_size": None} | {"intermediate_size": 11008}).new_config[
            "intermediate_size"
        ]
        == 22016
    )
    assert edited({"model_type": "llama"}, {"rms_norm_eps": 0.5})["rms_norm_eps"] == 0.5


def test_companions_come_along_and_the_rest_is_named(llama: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "LICENSE", "chat_template.jinja", "merges.txt"):
        (llama / name).write_text(name)
    (llama / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Small\nwords\n")
    (llama / "optimizer.pt").write_bytes(b"x")
    result = growth.widen_checkpoint(llama, tmp_path / "wide")
    wide = tmp_path / "wide"
    assert all(
        (wide / name).read_text() == name
        for name in ("tokenizer.json", "LICENSE", "chat_template.jinja", "merges.txt")
    )
    assert (wide / "generation_config.json").read_text() == (llama / "generation_config.json").read_text()
    assert result.left_behind == ("optimizer.pt",) and not (wide / "optimizer.pt").exists()
    card = (wide / "README.md").read_text()
    assert (
        card.startswith("---\nlicense: apache-2.0\n---\n")
        and "| hidden_size | 42 | 84 |" in card
        and "# Small\nwords" in card
    )


def test_overwrite_replaces_a_model_and_nothing_else(llama: Path, tmp_path: Path) -> None:
    growth.widen_checkpoint(llama, tmp_path / "wide")
    growth.widen_checkpoint(llama, tmp_path / "wide", width=3, overwrite=True)
    assert json.loads((tmp_path / "wide" / "config.json").read_text())["hidden_size"] == 126
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("meow")
    with pytest.raises(growth.CheckpointError, match="does not look like a model"):
        growth.widen_checkpoint(llama, tmp_path / "photos", overwrite=True)
    assert (tmp_path / "photos" / "cat.jpg").read_text() == "meow"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photos", "small", "wide"]


def test_our_writer_writes_what_the_library_reads(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 4), "b.c": torch.randn(5).to(torch.bfloat16), "empty": torch.zeros(0, 2)}
    with SafetensorsWriter(
        tmp_path / "x.safetensors", {n: (tuple(t.shape), t.dtype) for n, t in tensors.items()}
    ) as writer:
        for value in tensors.values():
            for row in value.split(2):
                writer.append(row)
    assert all(torch.equal(value, tensors[name]) for name, value in load_file(tmp_path / "x.safetensors").items())
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    with (
        pytest.raises(ValueError, match="announced"),
        SafetensorsWriter(tmp_path / "y.safetensors", {"a": ((2,), torch.float32)}),
    ):
        pass


def test_a_model_in_memory_keeps_all_that_is_not_width(llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.bfloat16)
    model.train()
    model.model.embed_tokens.weight.requires_grad_(False)
    model.generation_config.temperature = 0.5
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    grown = growth.widen(model, width=2, noise=0.1)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert grown.model.dtype == torch.bfloat16 and grown.model.training and type(grown.model) is type(model)
    assert {n for n, p in grown.model.named_parameters() if not p.requires_grad} == {"model.embed_tokens.weight"}
    assert grown.model.lm_head.weight is grown.model.model.embed_tokens.weight
    assert grown.model.generation_config.temperature == 0.5
    assert grown.model.model.gradient_checkpointing
    loss = grown.model(input_ids=torch.tensor([[3, 4, 5]]), labels=torch.tensor([[3, 4, 5]])).loss
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in grown.model.parameters() if p.grad is not None)
