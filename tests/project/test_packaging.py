"""What a wheel of this tree holds, and that it runs where nothing of the tree is at hand."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import growth

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def run(*command: str | Path, cwd: Path) -> str:
    # Without PYTHONPATH, which would put this tree before what is installed.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done.stdout


def tree() -> list[str]:
    """The files that git tracks or would track."""
    names = run("git", "ls-files", "-co", "--exclude-standard", "-z", cwd=ROOT).split("\0")
    return sorted(name for name in set(names) if name and (ROOT / name).is_file())


def test_every_package_is_listed() -> None:
    inits = [path.parent.relative_to(ROOT) for top in ("growth", "cli") for path in (ROOT / top).rglob("__init__.py")]
    found = {".".join(("growth", *folder.parts) if folder.parts[0] == "cli" else folder.parts) for folder in inits}
    assert sorted(found) == sorted(PROJECT["tool"]["setuptools"]["packages"])
    assert growth.__version__ == PROJECT["project"]["version"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the tree, so that nothing is written into it and nothing ignored gets
    in."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in tree():
        copy = folder / "tree" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder / "wheels", ".", cwd=folder / "tree")
    (built,) = (folder / "wheels").iterdir()
    return built


@pytest.mark.slow
def test_wheel_holds_the_package_alone_and_whole(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        info = f"transformer_growth-{growth.__version__}.dist-info"
        scripts = configparser.ConfigParser()
        scripts.read_string(archive.read(f"{info}/entry_points.txt").decode())
    assert {name.split("/")[0] for name in names} == {"growth", info}
    assert {name for name in names if name.startswith("growth/")} == {
        f"growth/{name}" if name.startswith("cli/") else name
        for name in tree()
        if name.startswith(("growth/", "cli/"))
    }
    assert {"growth/cli/main.py", "growth/py.typed", "growth/assets/excerpt.txt"} <= names
    assert dict(scripts["console_scripts"]) == {"grow": "growth.cli.main:main"}


@pytest.mark.slow
def test_installed_wheel_runs(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    scripts = environment / ("Scripts" if sys.platform == "win32" else "bin")
    python = scripts / Path(sys.executable).name
    run(
        sys.executable,
        "-m",
        "pip",
        "-q",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        wheel,
        cwd=tmp_path,
    )
    # The dependencies are this environment's, seen through a path file; path files inside it, an
    # editable install's say, are not followed.
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    where = run(python, "-c", "import growth.cli.main; print(growth.__file__, growth.cli.__file__)", cwd=tmp_path)
    assert all(Path(path).is_relative_to(site) for path in where.split())
    assert run(scripts / "grow", "--version", cwd=tmp_path).split()[-1] == growth.__version__
    assert "llama" in run(scripts / "grow", "architectures", cwd=tmp_path)
