"""``grow widen`` and ``grow verify``: what they print, what they write and what they return."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

import growth
from support.command import Grow, config_of, grow, logits, small
from support.small_models import bert

__all__ = ["grow", "small"]  # fixtures


@pytest.fixture(scope="module")
def wide(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grown from the small one; tests only read it."""
    return growth.widen_checkpoint(small, tmp_path_factory.mktemp("wide") / "wide").path


@pytest.fixture(scope="module")
def encoder(small: Path) -> Path:
    folder = small.parent / "encoder"
    bert().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("symmetry", "told"), [(["--symmetry", "none"], True), (["--noise", "0"], True), ([], False)])
def test_widen_says_what_it_proved(grow: Grow, symmetry: list[str], told: bool, small: Path, tmp_path: Path) -> None:
    result = grow("widen", small, tmp_path / "wide", *symmetry)
    assert result.code == 0 and result.err == ""
    lines = result.out.splitlines()
    rows = [line.split() for line in lines]
    assert ["hidden_size", "24", "48"] in rows and ["parameters", "12,216", "42,864"] in rows
    (twin,) = (line for line in lines if line.startswith("twin: "))
    (fold,) = (line for line in lines if line.startswith("fold: "))
    assert "in exact arithmetic, tolerance 1e-10" in twin
    assert fold.startswith("fold: 21 tensors read back bit for bit")
    assert any(line.startswith("note: ") and "the copies are equal and train as one" in line for line in lines) == told
    assert lines[-2:] == [f"written: {tmp_path / 'wide'}", f"next: grow verify {small} {tmp_path / 'wide'}"]
    assert (logits(tmp_path / "wide") - logits(small)).abs().max() < 1e-5


def test_widen_as_json(grow: Grow, small: Path, tmp_path: Path) -> None:
    record = grow("widen", small, tmp_path / "wide", "--json").json
    assert set(record) == {"source", "result", "dtype", "proof", "versions", "plan", "files"}
    assert record == json.loads((tmp_path / "wide" / "growth.json").read_text())
    assert record["proof"]["twin"]["difference"] <= record["proof"]["twin"]["tolerance"] == 1e-10
    assert record["proof"]["fold"]["tensors"] == 21 and record["proof"]["fold"]["exact"]
    assert set(record["source"]["sha256"]) == {"config.json", "model.safetensors"}


def test_overwrite_replaces_a_model(grow: Grow, small: Path, encoder: Path, tmp_path: Path) -> None:
    target = Path(shutil.copytree(encoder, tmp_path / "wide"))
    (target / "notes.txt").write_text("of the old model")
    assert "exists and was kept as it is" in grow("widen", small, target).complaint
    assert "does not: notes.txt. --overwrite would delete it" in grow("widen", small, target, "--overwrite").complaint
    assert config_of(target) == config_of(encoder) and (target / "notes.txt").exists()
    (target / "notes.txt").unlink()
    assert grow("widen", small, target, "--overwrite").code == 0
    assert config_of(target)["hidden_size"] == 48
    assert [path.name for path in tmp_path.iterdir()] == ["wide"]


def test_dtype_is_that_of_weights_and_config(grow: Grow, small: Path, tmp_path: Path) -> None:
    assert grow("widen", small, tmp_path / "wide", "--dtype", "bfloat16").code == 0
    assert {tensor.dtype for tensor in load_file(tmp_path / "wide" / "model.safetensors").values()} == {torch.bfloat16}
    assert config_of(tmp_path / "wide")["dtype"] == "bfloat16"
    assert LlamaForCausalLM.from_pretrained(tmp_path / "wide").dtype == torch.bfloat16


def test_small_shards_load(grow: Grow, small: Path, wide: Path, tmp_path: Path) -> None:
    target = tmp_path / "wide"
    assert grow("widen", small, target, "--max-shard-size", "100KB").code == 0
    index = json.loads((target / "model.safetensors.index.json").read_text())
    shards = sorted(path.name for path in target.glob("*.safetensors"))
    assert len(shards) > 1 and shards == sorted(set(index["weight_map"].values()))
    assert shards == [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    loaded = {shard: load_file(target / shard) for shard in shards}
    assert all(sum(tensor.nbytes for tensor in tensors.values()) <= 100_000 for tensors in loaded.values())
    assert {name: shard for shard, tensors in loaded.items() for name in tensors} == index["weight_map"]
    assert index["metadata"]["total_size"] == sum(
        tensor.nbytes for tensors in loaded.values() for tensor in tensors.values()
    )
    assert torch.equal(logits(target), logits(wide))


def test_nonfinite_weights_pass_on_request(grow: Grow, small: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(small, tmp_path / "source"))
    tensors = load_file(source / "model.safetensors")
    tensors["lm_head.weight"][3, 4] = float("nan")
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    assert "'lm_head.weight' holds NaN or infinity" in grow("widen", source, tmp_path / "wide").complaint
    assert grow("widen", source, tmp_path / "wide", "--allow-nonfinite").code == 0
    assert (
        grow("widen", source, tmp_path / "other", "--allow-nonfinite", "--json").json["proof"]["twin"]["difference"]
        <= 1e-10
    )


def changed(folder: Path, target: Path, name: str, factor: float) -> Path:
    """A copy of a checkpoint with one tensor scaled."""
    shutil.copytree(folder, target)
    tensors = load_file(target / "model.safetensors")
    tensors[name] = tensors[name] * factor
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_verify_a_good_pair(grow: Grow, small: Path, wide: Path) -> None:
    result = grow("verify", small, wide)
    assert result.code == 0
    lines = result.out.splitlines()
    assert (
        lines[0].startswith("logits, float32")
        and lines[2].startswith("grown - source")
        and lines[3].startswith("floor: ")
    )
    assert "random tokens (no tokenizer); outputs compared: logits" in lines[5]
    assert not any(line.startswith("perplexity") for line in lines)  # of random tokens it would say nothing
    assert lines[-1] == "equal: within the order of the rounding floor (on cpu)" or "cuda" in lines[-1]
    assert "diverge" not in result.out


def test_verify_a_good_pair_as_json(grow: Grow, small: Path, wide: Path) -> None:
    result = grow("verify", small, wide, "--json", "--tokens", "32", "--device", "cpu")
    assert result.code == 0
    report = result.json
    assert (
        report["equal"] is True
        and report["output"] == "logits"
        and report["tokens"] == 32
        and report["diverges_at"] is None
    )
    assert report["dtype"] == "float32" and report["floor_dtype"] == "float64" and report["device"] == "cpu"
    assert report["difference"]["largest"] <= 10 * report["floor"]["largest"] and report["difference"]["top1"] == 1.0


def test_verify_in_another_dtype(grow: Grow, small: Path, wide: Path) -> None:
    report = grow("verify", small, wide, "--json", "--dtype", "bfloat16", "--tokens", "64").json
    assert report["equal"] and (report["dtype"], report["floor_dtype"]) == ("bfloat16", "float32")


@pytest.mark.parametrize("layer", [0, 1])
def test_verify_names_where_a_changed_pair_diverges(
    grow: Grow, layer: int, small: Path, wide: Path, tmp_path: Path
) -> None:
    other = changed(wide, tmp_path / "changed", f"model.layers.{layer}.mlp.down_proj.weight", 2.0)
    result = grow("verify", small, other, "--tokens", "64", "--device", "cpu")
    assert result.code == 1
    assert f"\nhidden states diverge first at hidden_states.{layer + 1} " in result.out
    assert result.out.endswith("\nNOT EQUAL: further apart than rounding explains (on cpu)\n")
    report = grow("verify", small, other, "--tokens", "64", "--device", "cpu", "--json")
    assert report.code == 1 and report.json["equal"] is False
    assert report.json["diverges_at"].startswith(f"hidden_states.{layer + 1} ")


def test_verify_a_pair_with_nan(grow: Grow, small: Path, wide: Path, tmp_path: Path) -> None:
    other = changed(wide, tmp_path / "changed", "model.layers.0.mlp.down_proj.weight", float("nan"))
    result = grow("verify", small, other, "--tokens", "32", "--json")
    assert result.code == 1 and result.json["equal"] is False


@pytest.mark.parametrize("options", [("--tokens", "1"), ("--text", "gone.txt"), ("--dtype", "int8")])
def test_verify_wrong_usage(grow: Grow, options: tuple[str, str], small: Path, wide: Path) -> None:
    result = grow("verify", small, wide, *options)
    assert result.code == 2 and options[0] in result.err


def test_verify_refuses_in_one_line(grow: Grow, small: Path, wide: Path, encoder: Path, tmp_path: Path) -> None:
    assert "LlamaForCausalLM" in grow("verify", small, encoder).complaint
    assert "nope" in grow("verify", small, wide, "--device", "nope").complaint
    other = Path(shutil.copytree(wide, tmp_path / "other"))
    tensors = load_file(other / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    assert "'model.norm.weight'" in grow("verify", small, other).complaint
