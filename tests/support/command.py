"""Calls of ``grow``, in this process or as installed, with a small checkpoint to call it on and
what is read back from one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from transformers import LlamaForCausalLM, PreTrainedModel

from growth.cli.main import main
from support.small_models import llama

GROW = Path(sysconfig.get_path("scripts")) / "grow"
TOKENS = torch.arange(2, 50).reshape(2, 24)


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line on stderr."""
        (line,) = self.err.splitlines()
        assert line.startswith("grow: ") and self.code == 1
        return line

    @property
    def json(self) -> Any:
        """All of stdout as JSON by the standard, which knows no NaN and no Infinity."""

        def unknown(constant: str) -> None:
            raise AssertionError(f"stdout holds {constant}")

        assert self.err == ""
        return json.loads(self.out, parse_constant=unknown)


class Grow:
    """Calls ``grow`` in this process, as its entry point does."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def __call__(self, *arguments: object) -> Result:
        self.capsys.readouterr()
        self.monkeypatch.setattr(sys, "argv", ["grow", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        written = self.capsys.readouterr()
        assert stop.value.code is None or isinstance(stop.value.code, int)
        return Result(stop.value.code or 0, written.out, written.err)


@pytest.fixture
def grow(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Grow:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return Grow(capsys, monkeypatch)


def run(*arguments: object) -> Result:
    """Calls the installed ``grow``."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [GROW, *map(str, arguments)], capture_output=True, text=True, timeout=120, env=environment, check=False
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small real Llama; tests only read it."""
    folder = tmp_path_factory.mktemp("cli") / "small"
    llama().save_pretrained(folder)
    return folder


def logits(folder: Path) -> torch.Tensor:
    model: PreTrainedModel = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float64)
    with torch.no_grad():
        result: torch.Tensor = model(TOKENS).logits
    return result


def config_of(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config
