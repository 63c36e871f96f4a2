"""What ``trainer_state.json`` says of the best checkpoint stays only where that is the one that
grows: a folder of the same name in another run is another checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("accelerate", reason="transformers.Trainer needs it")

from transformers import TrainerState

import growth
from support.trainer_runs import checkpoint

BEST = {"best_metric": 0.1, "best_global_step": 2}
NONE = {"best_model_checkpoint": None, "best_metric": None, "best_global_step": None}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("saved"), "gpt2")[0]


def grown(saved: Path, root: Path, best: str | None, target: Path) -> dict[str, Any]:
    """The new ``trainer_state.json`` of ``root/runB/checkpoint-2`` whose own names ``best``."""
    source = root / "runB" / "checkpoint-2"
    shutil.copytree(saved, source, dirs_exist_ok=True)
    state = json.loads((source / "trainer_state.json").read_text())
    (source / "trainer_state.json").write_text(json.dumps({**state, **BEST, "best_model_checkpoint": best}))
    growth.widen_checkpoint(source, target, optimizer=True, moments="reset")
    written: dict[str, Any] = json.loads((target / "trainer_state.json").read_text())
    return {name: value for name, value in written.items() if name.startswith("best_")}


def test_it_is_known_by_its_path(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "runB")
    monkeypatch.chdir(tmp_path / "elsewhere")
    own = [str(tmp_path / "runB" / "checkpoint-2"), "runB/checkpoint-2", "./checkpoint-2", "../runB/checkpoint-2"]
    for number, best in enumerate([*own, str(tmp_path / "link" / "checkpoint-2")]):
        target = tmp_path / f"wide-{number}"
        assert grown(saved, tmp_path, best, target) == {**BEST, "best_model_checkpoint": str(target)}, best
    others = [
        "/data/runA/checkpoint-2",
        "runA/checkpoint-2",
        str(tmp_path / "checkpoint-2"),
        "runB/checkpoint-1",
        "a\0b",
        "\ud800",
    ]
    for number, best in enumerate(others):
        assert grown(saved, tmp_path, best, tmp_path / f"other-{number}") == NONE, best
    assert grown(saved, tmp_path, None, tmp_path / "none") == {**BEST, "best_model_checkpoint": None}
    assert TrainerState.load_from_json(str(tmp_path / "other-0" / "trainer_state.json")).best_metric is None
