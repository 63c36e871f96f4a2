"""What every refusal must say, that it leaves everything as it was, and the small checkpoints it is
tried on."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

import growth
from growth import GrowthError
from support.small_models import bert, llama

VERBS = (
    "add|check|choose|convert|correct|fetch|free|load|lower|move|name|remove|repair|save|say|set|spell|take|unwrap|upgrade|"
    "use|widen"
)
NEXT_STEP = re.compile(rf"[.;,] ({VERBS}) ", re.IGNORECASE)
Sources = dict[str, Path]


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """Small real checkpoints; tests copy them."""
    folder = tmp_path_factory.mktemp("sources")
    for name, model in (("llama", llama()), ("bert", bert())):
        model.save_pretrained(folder / name)
    return {"llama": folder / "llama", "bert": folder / "bert"}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub")))


def snapshot(folder: Path) -> dict[str, str]:
    """Everything below a folder, by hash."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        else:
            found[name] = "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def check_message(message: str, says: tuple[str, ...], step: str | None = None) -> None:
    assert "\n" not in message and message.endswith("."), message
    for part in says:
        assert part in message, f"{part!r} is not in: {message}"
    assert re.search(step, message) if step else NEXT_STEP.search(message), f"no next step: {message}"


def refused(
    source: Path | str,
    target: Path,
    error: type[GrowthError],
    *says: str,
    step: str | None = None,
    planned: bool = True,
    **options: Any,
) -> None:
    """Assert that widening ``source`` is refused and nothing beside ``target`` changes;
    ``planned``: that planning is, too."""
    home = target.parent
    while not home.is_dir():
        home = home.parent
    before = snapshot(home)
    there = snapshot(Path(source)) if os.path.isdir(source) else None
    with pytest.raises(GrowthError) as caught:
        growth.widen_checkpoint(source, target, **options)
    assert type(caught.value) is error or error is GrowthError
    check_message(str(caught.value), says, step)
    assert snapshot(home) == before
    assert not list(home.glob(".*growing*"))
    assert there is None or snapshot(Path(source)) == there
    if planned:
        with pytest.raises(GrowthError) as again:
            growth.plan_widening(source, **{name: value for name, value in options.items() if name != "overwrite"})
        assert str(again.value) == str(caught.value)
