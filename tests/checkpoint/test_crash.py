"""A widening that fails or is interrupted leaves nothing that looks like a model, and does not
change what was there before."""

from __future__ import annotations

import json
import os
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

import growth
from growth.checkpoint import widen as checkpoint
from growth.checkpoint.preview import plan_widening
from growth.checkpoint.safetensors_writer import SafetensorsWriter
from growth.hf.reader import Checkpoint
from growth.proof.twin import TwinReport, prove_twin
from growth.weights import model_weights
from support.crashes import CTRL_C, DISK_FULL, FAILURES, Bomb, Failure, crash, source, tensor_count
from support.refusals import snapshot
from support.small_models import SIZES

__all__ = ["source"]  # a fixture


@pytest.fixture(scope="module")
def twin(source: Path) -> TwinReport:
    return prove_twin(plan_widening(source))


@pytest.fixture
def proved(twin: TwinReport, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof by twin, which comes before anything is written, made once for all tests."""
    monkeypatch.setattr(checkpoint, "prove_twin", lambda plan, device="cpu": twin)


@pytest.mark.parametrize("step", ["grow_blocks", pytest.param("check_fold", marks=pytest.mark.slow)])
@pytest.mark.parametrize("failure", FAILURES, ids=attrgetter("name"))
@pytest.mark.usefixtures("proved")
def test_crash_at_every_tensor_leaves_nothing(
    step: str,
    failure: Failure,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "neighbour").mkdir()
    (tmp_path / "neighbour" / "kept.txt").write_text("kept")
    function, before = getattr(model_weights, step), snapshot(source)
    for number in range(tensor_count(source)):
        bomb = Bomb(function, failure.raises, number)
        monkeypatch.setattr(model_weights, step, bomb)
        crash(bomb, source, tmp_path / "wide", failure)
    assert snapshot(source) == before
    monkeypatch.setattr(model_weights, step, function)
    growth.widen_checkpoint(source, tmp_path / "wide")


@pytest.mark.parametrize("failure", FAILURES, ids=attrgetter("name"))
@pytest.mark.usefixtures("proved")
def test_crash_at_every_tensor_keeps_the_old_destination(
    failure: Failure,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = tmp_path / "wide"
    torch.manual_seed(1)
    BertForMaskedLM(BertConfig(num_attention_heads=4, **SIZES)).save_pretrained(target)
    function = model_weights.grow_blocks
    for number in range(tensor_count(source)):
        bomb = Bomb(function, failure.raises, number)
        monkeypatch.setattr(model_weights, "grow_blocks", bomb)
        crash(bomb, source, target, failure, overwrite=True)
    monkeypatch.setattr(model_weights, "grow_blocks", function)
    growth.widen_checkpoint(source, target, overwrite=True)
    assert json.loads((target / "config.json").read_text())["model_type"] == "llama"
    assert [path.name for path in tmp_path.iterdir()] == ["wide"]


STEPS: list[tuple[Any, str, int, dict[str, Any]]] = [
    (Checkpoint, "read", 7, {}),
    (SafetensorsWriter, "append", 0, {}),
    (SafetensorsWriter, "append", 11, {}),
    (SafetensorsWriter, "__init__", 2, {"max_shard_size": "50KB"}),
    (checkpoint, "write_card", 0, {}),
    (Path, "write_text", 0, {}),
    (Path, "write_text", 1, {}),
    (Path, "write_text", 2, {}),
    (os, "rename", 0, {}),
]


@pytest.mark.parametrize(
    ("owner", "name", "fuse", "options"),
    STEPS,
    ids=[f"{owner.__name__}.{name} {fuse}" for owner, name, fuse, _ in STEPS],
)
@pytest.mark.parametrize("failure", [DISK_FULL, CTRL_C], ids=attrgetter("name"))
@pytest.mark.usefixtures("proved")
def test_crash_at_every_other_step_leaves_nothing(
    owner: Any,
    name: str,
    fuse: int,
    options: dict[str, Any],
    failure: Failure,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bomb = Bomb(getattr(owner, name), failure.raises, fuse)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, bomb)
        crash(bomb, source, tmp_path / "new" / "below" / "wide", failure, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("proved")
def test_crash_in_the_callers_progress_leaves_nothing(source: Path, tmp_path: Path) -> None:
    def progress(done: int, total: int, name: str) -> None:
        if done > total / 2:
            raise RuntimeError(f"at {name}")

    with pytest.raises(RuntimeError, match="at model"):
        growth.widen_checkpoint(source, tmp_path / "wide", progress=progress)
    assert not list(tmp_path.iterdir())
