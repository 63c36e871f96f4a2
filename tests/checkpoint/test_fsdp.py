"""Folders that accelerate and Trainer save under FSDP, on two gloo ranks, grow tensor by tensor to what growth
in memory makes of the same model and optimizer, bit for bit; and training goes on in the wide model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

import growth
from growth.checkpoint import fsdp_training
from growth.hf import dcp_reader
from support.fsdp_runs import (
    MODELS,
    OPTIMIZERS,
    on_ranks,
    resumed,
    saved_alone,
    trained_by_trainer,
    whole,
    write_config,
)

from .conftest import FsdpSource

NOISY: dict[str, Any] = {"width": 2, "noise": 1.0}
ROUNDING = 5e-7
"""Of a loss in float32 after growth, relative to it."""


def in_memory(source: Path, name: str, home: Path, optimizer: str = "adamw", **choices: Any) -> tuple[Any, Any]:
    """(state dict, parameter -> state): what `growth.widen` makes of the model and the optimizer that a folder
    holds, which torch's own converter reads."""
    model = MODELS[name]()
    model.load_state_dict(whole(source, "pytorch_model_fsdp_0", home)["model"])
    trained = OPTIMIZERS[optimizer](model)
    state = whole(source, "optimizer_0", home)["optimizer"].get("state", {})
    for key, parameter in model.named_parameters():
        trained.state[parameter] = state.get(key, {})
    grown = growth.widen(model, optimizer=trained, **choices)
    assert grown.optimizer is not None
    moments = {key: grown.optimizer.state[parameter] for key, parameter in grown.model.named_parameters()}
    return grown.model.state_dict(), moments


def check_same(source: Path, config: Path, name: str, home: Path, optimizer: str = "adamw", **choices: Any) -> Path:
    """Grow a folder, and compare it with growth in memory."""
    wide = home / "wide"
    result = growth.widen_checkpoint(source, wide, config=config, optimizer=True, **choices)
    assert result.proof.twin.difference <= 1e-10 and result.proof.fold.ok
    weights, moments = in_memory(source, name, home, optimizer, **choices)
    held = whole(wide, "pytorch_model_fsdp_0", home)["model"]
    assert held.keys() == weights.keys()
    assert [key for key, value in weights.items() if not torch.equal(value, held[key])] == []
    state = whole(wide, "optimizer_0", home)["optimizer"].get("state", {})
    for key, expected in moments.items():
        for what, value in expected.items():
            same = torch.equal(value, state[key][what]) if isinstance(value, Tensor) else value == state[key][what]
            assert same, f"{what} of {key}"
    assert {key: set(value) for key, value in state.items()} == {
        key: set(value) for key, value in moments.items() if value
    }
    return wide


@pytest.mark.parametrize("name", ["tied", "mixtral"])
def test_a_folder_grows_as_the_model_in_memory(name: str, fsdp_source: FsdpSource, tmp_path: Path) -> None:
    source, config, losses = fsdp_source(name)
    wide = check_same(source, config, name, tmp_path, **NOISY)
    went_on = resumed(wide, tmp_path / "ranks")
    assert went_on[0] == pytest.approx(losses[-1], rel=ROUNDING)
    assert went_on[2] < went_on[1] < went_on[0]


SLOW: list[tuple[str, dict[str, Any]]] = [
    *((name, NOISY) for name in ("llama", "gpt2")),
    *((name, {"width": 1.5}) for name in ("tied", "llama", "gpt2")),
    ("mixtral", {"intermediate_size": 28, "noise": 0.5}),
    *((name, {"hidden_size": 40, "noise": 0.5}) for name in ("tied", "llama")),
    *((name, {"width": 2, "symmetry": "split:1/2"}) for name in MODELS),
    *((name, {"width": 2, "noise": 1.0, "moments": "fresh"}) for name in ("tied", "mixtral")),
    ("mixtral", {"experts": 6, "noise": 1.0, "lossy": False}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "choices"), SLOW, ids=[f"{name}-{number}" for number, (name, _) in enumerate(SLOW)])
def test_every_choice(name: str, choices: dict[str, Any], fsdp_source: FsdpSource, tmp_path: Path) -> None:
    source, config, losses = fsdp_source(name)
    wide = check_same(source, config, name, tmp_path, **choices)
    assert resumed(wide, tmp_path / "ranks")[0] == pytest.approx(losses[-1], rel=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS.keys() - {"adagrad"}))
def test_every_optimizer(optimizer: str, fsdp_source: FsdpSource, tmp_path: Path) -> None:
    source, config, losses = fsdp_source("tied", optimizer=optimizer)
    wide = check_same(source, config, "tied", tmp_path, optimizer, **NOISY)
    steps = json.loads((wide / "growth.json").read_text())["training"]["global_step"]
    assert steps == (None if "sgd" in optimizer else 2)
    went_on = resumed(wide, tmp_path / "ranks", optimizer=optimizer)
    assert went_on[0] == pytest.approx(losses[-1], rel=ROUNDING) and went_on[2] < went_on[0]


@pytest.mark.slow
@pytest.mark.parametrize("choices", [NOISY, {"width": 2, "moments": "fresh"}])
def test_adagrad(choices: dict[str, Any], tmp_path: Path) -> None:
    saved_alone(tmp_path / "state", "tied", "adagrad")
    check_same(tmp_path / "state", write_config(tmp_path / "config", "tied"), "tied", tmp_path, "adagrad", **choices)


@pytest.mark.slow
@pytest.mark.parametrize("choices", [{"layers": 4}, {"layers": 4, "width": 2, "noise": 1.0}])
@pytest.mark.parametrize("name", ["tied", "gpt2"])
def test_new_layers_begin_with_moments_of_zero(
    name: str, choices: dict[str, Any], fsdp_source: FsdpSource, tmp_path: Path
) -> None:
    source, config, losses = fsdp_source(name)
    growth.widen_checkpoint(source, tmp_path / "deep", config=config, optimizer=True, **choices)
    weights, moments = in_memory(source, name, tmp_path, **choices)
    held = whole(tmp_path / "deep", "pytorch_model_fsdp_0", tmp_path)["model"]
    assert all(torch.equal(value, held[key]) for key, value in weights.items())
    state = whole(tmp_path / "deep", "optimizer_0", tmp_path)["optimizer"]["state"]
    for key, expected in moments.items():
        kept = expected or {what: torch.zeros_like(value) for what, value in state[key].items()}
        assert all(torch.equal(value, state[key][what]) for what, value in kept.items()), key
    assert any(not expected for expected in moments.values())
    went_on = resumed(tmp_path / "deep", tmp_path / "ranks")
    assert went_on[0] == pytest.approx(losses[-1], rel=2e-6) and went_on[2] < went_on[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", pytest.param("tied", marks=pytest.mark.slow)])
def test_one_file_each(name: str, fsdp_source: FsdpSource, tmp_path: Path) -> None:
    source, config, losses = fsdp_source(name, "FULL_STATE_DICT")
    wide = tmp_path / "wide"
    growth.widen_checkpoint(source, wide, config=config, optimizer=True, **NOISY)
    assert {"pytorch_model_fsdp.bin", "optimizer.bin"} <= {path.name for path in wide.iterdir()}
    model = MODELS[name]()
    model.load_state_dict(torch.load(source / "pytorch_model_fsdp.bin", weights_only=True))
    grown = growth.widen(model, **NOISY).model.state_dict()
    held = torch.load(wide / "pytorch_model_fsdp.bin", weights_only=True)
    assert held.keys() == grown.keys() and all(torch.equal(value, held[key]) for key, value in grown.items())
    went_on = resumed(wide, tmp_path / "ranks", "FULL_STATE_DICT")
    assert went_on[0] == pytest.approx(losses[-1], rel=ROUNDING) and went_on[2] < went_on[0]


@pytest.mark.parametrize("mode", ["SHARDED_STATE_DICT", pytest.param("FULL_STATE_DICT", marks=pytest.mark.slow)])
def test_trainer_goes_on(mode: str, tmp_path: Path) -> None:
    config = write_config(tmp_path / "config", "tied")

    def trained(rank: int) -> dict[str, Any]:
        torch.manual_seed(0)
        return trained_by_trainer(MODELS["tied"](), tmp_path / "out", steps=4, mode=mode)

    small = on_ranks(trained, tmp_path / "first")[0]
    source, wide = tmp_path / "out" / "checkpoint-2", tmp_path / "wide" / "checkpoint-2"
    named = config if mode == "SHARDED_STATE_DICT" else None  # which alone has no config.json
    result = growth.widen_checkpoint(source, wide, config=named, optimizer=True, **NOISY)
    assert result.training is not None and result.training["global_step"] == 2
    assert "Trainer.train(resume_from_checkpoint=...)" in str(result)

    def went_on(rank: int) -> dict[str, Any]:
        torch.manual_seed(9)
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(wide))
        return trained_by_trainer(model, wide.parent, steps=4, resume=wide, mode=mode)

    big = on_ranks(went_on, tmp_path / "second")[0]
    assert big["steps"] == 4 and big["losses"][3] == pytest.approx(small["losses"][3], rel=ROUNDING)
    assert big["losses"][4] < big["losses"][3]


def test_moments_can_start_anew(fsdp_source: FsdpSource, tmp_path: Path) -> None:
    source, config, losses = fsdp_source("tied")
    wide = tmp_path / "wide"
    growth.widen_checkpoint(source, wide, config=config, optimizer=True, moments="reset", **NOISY)
    loaded = whole(wide, "optimizer_0", tmp_path)["optimizer"]
    assert all(not value.any() for state in loaded["state"].values() for value in state.values())
    before = whole(source, "optimizer_0", tmp_path)["optimizer"]
    assert loaded["param_groups"] == before["param_groups"] and loaded["state"].keys() == before["state"].keys()
    assert resumed(wide, tmp_path / "ranks")[0] == pytest.approx(losses[-1], rel=ROUNDING)


def off_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that lays the second rank's rows one row too early."""
    real = dcp_reader.ShardedFolder.read

    def read(self: Any, place: Any) -> Any:
        value, about = real(self, place), self.tensor(place)
        if about is not None and len(about.chunks) > 1:
            start = about.chunks[1].offsets[0]
            value[start - 1 : -1] = value[start:].clone()
        return value

    monkeypatch.setattr(dcp_reader.ShardedFolder, "read", read)


def other_degree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moments that all grow as ``exp_avg`` does."""
    real = fsdp_training.grown_values
    monkeypatch.setattr(
        fsdp_training,
        "grown_values",
        lambda values, old, new, plan, degree, *more: real(values, old, new, plan, 1, *more),
    )


@pytest.mark.parametrize("mutant", [off_by_one, other_degree])
def test_a_wrong_reader_would_be_seen(
    mutant: Any, fsdp_source: FsdpSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, config, _ = fsdp_source("tied")
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        check_same(source, config, "tied", tmp_path, **NOISY)


def test_what_the_record_says(fsdp_source: FsdpSource, tmp_path: Path) -> None:
    source, config, _ = fsdp_source("tied")
    result = growth.widen_checkpoint(source, tmp_path / "wide", config=config.parent, optimizer=True, **NOISY)
    record = json.loads((tmp_path / "wide" / "growth.json").read_text())
    assert {"config.json", "pytorch_model_fsdp_0/.metadata", "optimizer_0/__1_0.distcp"} <= record["source"][
        "sha256"
    ].keys()
    assert record["source"]["config"] == "config" and record["training"]["saved_by"] == "accelerate"
    assert record["training"]["global_step"] == 2 and record["files"] == sorted(result.files)
    assert {"random_states_0.pkl", "random_states_1.pkl", "README.md"} <= set(result.files)
    assert result.left_behind == () and "accelerator.load_state(...)" in str(result)
    assert json.loads((tmp_path / "wide" / "config.json").read_text())["hidden_size"] == 48
    again = growth.widen_checkpoint(
        tmp_path / "wide", tmp_path / "wider", optimizer=True, width=2, dtype="bfloat16"
    )  # its own config is in it
    assert json.loads((tmp_path / "wider" / "config.json").read_text())["hidden_size"] == 96
    assert again.training is not None and again.training["global_step"] == 2
    assert (
        whole(tmp_path / "wider", "pytorch_model_fsdp_0", tmp_path)["model"]["model.norm.weight"].dtype
        == torch.bfloat16
    )


def test_the_weights_alone_and_what_stays_behind(fsdp_source: FsdpSource, tmp_path: Path) -> None:
    source, config, _ = fsdp_source("tied")
    result = growth.widen_checkpoint(source, tmp_path / "wide", config=config, width=2)
    assert set(result.left_behind) == {"optimizer_0", "random_states_0.pkl", "random_states_1.pkl"}
    assert "a state that accelerate saved; --optimizer" in str(result)
    first = {path.name: path.read_bytes() for path in (tmp_path / "wide" / "pytorch_model_fsdp_0").iterdir()}
    with pytest.raises(growth.CheckpointError, match="exists and was kept"):
        growth.widen_checkpoint(source, tmp_path / "wide", config=config, width=2)
    growth.widen_checkpoint(source, tmp_path / "wide", config=config, width=2, overwrite=True)
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "wide" / "pytorch_model_fsdp_0").iterdir()}
    (tmp_path / "wide" / "optimizer_0").mkdir()
    (tmp_path / "wide" / "optimizer_0" / "notes.txt").write_text("mine")
    with pytest.raises(growth.CheckpointError, match="holds what the folder of a model does not: optimizer_0/"):
        growth.widen_checkpoint(source, tmp_path / "wide", config=config, width=2, overwrite=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixtral", "tied"])
def test_saved_whole_the_two_are_equal(name: str, fsdp_source: FsdpSource, tmp_path: Path) -> None:
    source, config, _ = fsdp_source(name)
    growth.widen_checkpoint(source, tmp_path / "wide", config=config, **NOISY)
    for folder, about in ((source, config), (tmp_path / "wide", tmp_path / "wide" / "config.json")):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(about))
        model.load_state_dict(whole(folder, "pytorch_model_fsdp_0", tmp_path)["model"])
        model.save_pretrained(tmp_path / f"whole-{folder.name}")
    report = growth.check_equivalence(tmp_path / "whole-state", tmp_path / "whole-wide", tokens=64)
    assert report.equal


def test_a_folder_is_as_private_as_its_source(fsdp_source: FsdpSource, tmp_path: Path) -> None:
    import shutil

    source, config, _ = fsdp_source("tied")
    mine = shutil.copytree(source, tmp_path / "mine")
    for path in (mine / "pytorch_model_fsdp_0").iterdir():
        path.chmod(0o600)
    (mine / "pytorch_model_fsdp_0").chmod(0o700)
    growth.widen_checkpoint(mine, tmp_path / "wide", config=config, width=2)
    weights = tmp_path / "wide" / "pytorch_model_fsdp_0"
    assert weights.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in weights.iterdir()} == {0o600}
