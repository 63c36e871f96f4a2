"""The ways in: ``python -m``, from whatever folder, quickly where the arguments make no sense."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import growth
from growth.cli.main import grow as command
from support.command import Grow, grow, small

__all__ = ["grow", "small"]  # fixtures
ROOT = Path(growth.__file__).parents[1]


def python(*arguments: str, cwd: Path, bare: bool = False) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own; ``bare``: with nothing but its environment to find growth by."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    if bare:
        environment.pop("PYTHONPATH", None)
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("module", ["growth", "growth.cli.main"])
def test_python_m_is_the_command(module: str, tmp_path: Path) -> None:
    done = python("-m", module, "plan", "gone", "--width", "1", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("Usage: grow plan") and "width must be" in done.stderr


FINDS = (
    "import sys; sys.path[:] = [path for path in sys.path if path not in {without}]; import growth; growth.__version__"
)


def test_growth_is_found_beside_a_folder_of_its_name(tmp_path: Path) -> None:
    """From the folder above a clone called growth, say."""
    (tmp_path / "growth" / "tests").mkdir(parents=True)
    assert python("-c", FINDS.format(without="()"), cwd=tmp_path, bare=True).returncode == 0


def test_without_the_path_file_the_folder_would_win(tmp_path: Path) -> None:
    (tmp_path / "growth").mkdir()
    root = python("-c", "import growth; print(growth.__path__[0])", cwd=ROOT.parent, bare=True).stdout.strip()
    done = python("-c", FINDS.format(without=[str(Path(root).parent)]), cwd=tmp_path, bare=True)
    assert "no attribute '__version__'" in done.stderr


def test_the_list_of_commands_is_not_cut(grow: Grow) -> None:
    assert "..." not in grow("--help").out.partition("Commands:")[2]
    assert all(found.short_help and found.short_help in grow("--help").out for found in command.commands.values())


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "./gone"),
        ("widen", "./gone", "wide"),
        ("widen", "{small}", "there"),
        ("verify", "{small}", "there"),
        ("plan", "there"),
    ],
    ids=" ".join,
)
def test_a_wrong_path_costs_no_import(arguments: tuple[str, ...], small: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "note.txt").write_text("")
    script = (
        "import sys; from growth.cli.main import grow\n"
        "try: grow(sys.argv[1:], standalone_mode=False)\n"
        "except Exception as error: print(type(error).__name__, 'torch' in sys.modules)"
    )
    done = python("-c", script, *(each.format(small=small) for each in arguments), cwd=tmp_path)
    assert done.stdout.strip() == "CheckpointError False", done.stderr


def test_a_terminal_is_told_what_goes_on(
    grow: Grow, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = grow("plan", small)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    told = grow("plan", small)
    assert silent.err == "" and told.out == silent.out
    assert "loading PyTorch" in told.err and "planning" in told.err and told.err.endswith("\r\x1b[K")
    assert "comparing a miniature" in grow("widen", small, tmp_path / "wide").err
    assert "[1/3] source in float64" in grow("verify", small, tmp_path / "wide", "--tokens", "8").err


def test_examples_and_hints_take_the_noise_that_measured_best(grow: Grow) -> None:
    """It is the default, so they need not say it."""
    helps = " ".join(grow(*name, "--help").out for name in ((), *((name,) for name in command.commands)))
    assert "[default: auto]" in " ".join(helps.split()) and "--symmetry none leaves it out" in helps
    assert not any(said in helps for said in ("--noise 1", "noise 0.1", "noise:0.1"))
