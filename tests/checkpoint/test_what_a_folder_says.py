"""What a widened folder and a comparison say of where things came from, and of what stayed behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import growth
from growth.checkpoint import provenance
from growth.checkpoint.provenance import other_source
from growth.checkpoint.record import source_name
from support.small_models import llama


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("says") / "small"
    llama().save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicence: mit\n---\n# Small\n\nmaps to a 24 dimensional space\n")
    return folder


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("runs/small", "small"),
        ("hub/models--org--some-model/snapshots/0a1b", "org/some-model"),
        ("hub/models--gpt2/snapshots/0a1b", "gpt2"),
    ],
)
def test_a_source_by_its_name(folder: str, name: str) -> None:
    assert source_name(Path(folder)) == name


def test_card_and_record_say_the_source(small: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(small, tmp_path / "source"))
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "_name_or_path": "org/model"}))
    wide = growth.widen_checkpoint(source, tmp_path / "wide", noise=1).path
    card = (wide / "README.md").read_text()
    assert "Widened from `source`, whose config names `org/model`, by growth" in card
    assert json.loads((wide / "growth.json").read_text())["source"]["name"] == "source"
    told, _, old = card.partition("The card of the source follows.")
    assert "| hidden_size | 24 | 48 |" in told
    (source / "config.json").write_text(json.dumps({**config, "_name_or_path": "../runs/base"}))
    assert (
        "Widened from `source` by" in (growth.widen_checkpoint(source, tmp_path / "w").path / "README.md").read_text()
    )
    assert old.index("they are the source's") < old.index("maps to a 24 dimensional space")


def test_unequal_since_grown_from_another_model(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Path(shutil.copytree(small, tmp_path / "other"))
    state = {name: tensor + 0.1 for name, tensor in load_file(small / "model.safetensors").items()}
    save_file(state, other / "model.safetensors", metadata={"format": "pt"})
    wide = growth.widen_checkpoint(other, tmp_path / "wide").path
    report = growth.check_equivalence(small, wide, tokens=32, device="cpu")
    assert not report.equal and report.grown_from == "other"
    assert "by its growth.json, the second was grown from another model ('other') (on cpu)" in str(report)
    assert other_source(other, wide) is None and growth.check_equivalence(other, wide, tokens=32).grown_from is None
    monkeypatch.setattr(provenance, "_sha256", lambda path: "of nothing")
    assert other_source(other, wide) == "other", "which a check that reads no file would say of the source itself"


def test_a_trainer_checkpoint_says_how_its_training_state_grows(small: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(small, tmp_path / "checkpoint-5"))
    for name in ("optimizer.pt", "scheduler.pt", "trainer_state.json", "rng_state.pth", "training_args.bin"):
        (source / name).write_bytes(b"{}")
    torch.save({}, source / "adapter_model.bin")
    result = growth.widen_checkpoint(source, tmp_path / "wide")
    assert "training_args.bin" in result.left_behind and "model.safetensors" not in result.left_behind
    assert "this is a Trainer checkpoint; --optimizer (optimizer=True) grows its training state as well" in str(result)
    (source / "trainer_state.json").unlink()
    assert "Trainer checkpoint" not in str(growth.widen_checkpoint(source, tmp_path / "wide2"))
