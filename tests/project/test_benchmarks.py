"""The bookkeeping of `benchmarks/frozen.py` and `benchmarks/deeper.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import deeper
import frozen

from support.optimizers import no_twin
from support.threads import one_thread

__all__ = ["no_twin", "one_thread"]  # fixtures for every test here


@pytest.mark.slow
def test_frozen_trains_every_arm_on_the_same_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    excerpt = str(frozen.SMALL.parent / "excerpt.txt")
    tiny = ["--steps", "2", "--batch", "2", "--context", "16", "--eval-windows", "8", "--lrs", "1e-3", "--seeds", "0"]
    monkeypatch.setattr(sys, "argv", ["frozen.py", excerpt, excerpt, *tiny])
    frozen.main()
    *table, _, before, _ = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    assert [arm for arm, *_ in rows] == [*frozen.ARMS]
    start = before.split()[1]
    assert all(old == new != start for _, _, old, new in rows) and len({old for _, _, old, _ in rows}) == len(rows)


@pytest.mark.slow
def test_deeper_starts_where_the_small_model_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = ["--before", "1", "--at", "0", "1", "--batch", "2", "--context", "16", "--eval-windows", "8"]
    monkeypatch.setattr(sys, "argv", ["deeper.py", str(deeper.SMALL.parent / "excerpt.txt"), *tiny])
    deeper.main()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()]
    at_once = {row[0]: row[1] for row in rows if row[0] in deeper.ARMS}
    assert at_once["silent, even"] == at_once["silent, at the end"] == "+0.000 to +0.000" != at_once["copied, even"]
