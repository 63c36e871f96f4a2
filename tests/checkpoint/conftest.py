from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.fsdp_runs import saved, write_config

FsdpSource = Callable[..., tuple[Path, Path, list[float]]]


@pytest.fixture(scope="session")
def fsdp_source(tmp_path_factory: pytest.TempPathFactory) -> FsdpSource:
    """(name of a model, mode, ...) -> the folder that accelerate saved it to under FSDP on two ranks, the file of
    its config, and the losses. Each is trained once; nobody may write to it."""
    made: dict[tuple[str, ...], tuple[Path, Path, list[float]]] = {}

    def source(
        name: str, mode: str = "SHARDED_STATE_DICT", optimizer: str = "adamw"
    ) -> tuple[Path, Path, list[float]]:
        if (name, mode, optimizer) not in made:
            home = tmp_path_factory.mktemp(f"fsdp-{name}")
            losses = saved(home / "state", home / "ranks", name, mode, optimizer=optimizer)
            made[name, mode, optimizer] = home / "state", write_config(home / "config", name), losses
        return made[name, mode, optimizer]

    return source


@pytest.fixture
def damaged_source(fsdp_source: FsdpSource, tmp_path: Path) -> tuple[Path, Path]:
    """A copy to damage, and the file of its config."""
    folder, config, _ = fsdp_source("tied")
    return shutil.copytree(folder, tmp_path / "state"), config
