"""``grow widen`` and ``grow verify`` with ``--device``, and what the tests do where there is no GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from support.command import Grow, grow
from support.devices import DEVICES
from support.small_models import llama

__all__ = ["grow"]  # a fixture
pytestmark = pytest.mark.filterwarnings("default")  # what torch warns of on a GPU is not known beforehand
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("device", DEVICES)
def test_folders_grow_and_verify(device: str, dtype: torch.dtype, grow: Grow, tmp_path: Path) -> None:
    small, wide, beside = (tmp_path / name for name in ("small", "wide", "beside"))
    llama().to(dtype).save_pretrained(small)  # type: ignore[arg-type]
    choices = ("--width", 2, "--noise", 1)
    assert grow("widen", small, wide, *choices, "--device", device).code == 0
    assert grow("widen", small, beside, *choices).code == 0
    weights = [(folder / "model.safetensors").read_bytes() for folder in (wide, beside)]
    assert weights[0] == weights[1]
    for given in ((), ("--dtype", "float32")):
        report = grow("verify", small, wide, "--device", device, "--json", *given)
        assert report.code == 0 and report.json["equal"] and report.json["device"].startswith(device)
    changed = llama().to(dtype)  # type: ignore[arg-type]
    changed.model.layers[0].mlp.up_proj.weight.data *= 1.5
    changed.save_pretrained(tmp_path / "other")
    assert grow("verify", tmp_path / "other", wide, "--device", device, "--dtype", "float32").code == 1


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_its_tests_fail_in_one_sentence() -> None:
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "tests/gpu"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ}, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr == ""
    (said,) = [line for line in done.stdout.splitlines() if "GPU" in line]
    assert said.strip("! ").startswith("_pytest.outcomes.Exit: no GPU was found")
    assert "passed" not in done.stdout and "skipped" not in done.stdout
    command[4] = "gpu and (slow or real or compat)"  # no other target may select one of them
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 5
