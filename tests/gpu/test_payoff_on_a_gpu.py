"""The benchmark `benchmarks/payoff.py` on a GPU: compiled and in bfloat16 it ends near where it does on the CPU."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import payoff
import payoff_results

from support.devices import DEVICES
from support.payoff_cases import TINY, tiny_plan, write_texts


@pytest.mark.parametrize("device", DEVICES)
def test_a_plan_runs_to_its_end(device: str, tmp_path: Path) -> None:
    texts, losses = write_texts(tmp_path / "texts"), []
    settings = (TINY, replace(TINY, device=device, bfloat16=True, compiled=device == "cuda"))
    for number, setting in enumerate(settings):
        out = tmp_path / f"{number}.jsonl"
        plan, head = tiny_plan()[:5], payoff.header("tiny", setting, texts)
        payoff.run(plan, setting, texts, out, tmp_path / str(number), 0, head)
        records = payoff_results.read(out)[1]
        assert {arm.job for arm in plan} <= {record["job"] for record in records}
        losses.append(fmean(record["report"] for record in records))
    assert losses[0] == pytest.approx(losses[1], abs=0.02)
