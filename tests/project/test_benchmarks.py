"""Every program in `benchmarks/` starts; the bookkeeping of `frozen.py` and `deeper.py`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import deeper
import frozen

from support.optimizers import no_twin
from support.threads import one_thread

__all__ = ["no_twin", "one_thread"]  # fixtures for every test here

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


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


def start(path: Path) -> Any:
    """A program as its first line leaves it, without running it."""
    spec = importlib.util.spec_from_file_location(f"program_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look theirs up by name
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    return module


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.stem)
def test_every_program_finds_what_it_imports(path: Path) -> None:
    module = start(path)
    assert module.__doc__
    if path.stem == "run_cost":  # which replaces these by name
        assert all(callable(getattr(caller, name)) for name, caller in module.RUNS.items())


def test_a_program_that_lost_an_import_is_seen(tmp_path: Path) -> None:
    (tmp_path / "lost.py").write_text("from growth.training.model import share_weights\n")
    with pytest.raises(ImportError):
        start(tmp_path / "lost.py")
