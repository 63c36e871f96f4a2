"""What bad choices, and bad places to read from or write to, get: a named one-line error, and
whatever is in the way is kept."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import growth
from growth import CheckpointError, GrowthError, IllegalGrowthError
from support.refusals import Sources, check_message, offline, refused, snapshot, sources
from support.small_models import llama

__all__ = ["offline", "sources"]  # fixtures, the first for every test here

WRONG_OPTIONS: list[tuple[str, dict[str, Any], type[GrowthError], str, str | None]] = [
    *(
        (f"width {width!r}", {"width": width}, IllegalGrowthError, repr(width), None)
        for width in (0, -1, 1, 0.5, "x", "1/0", "1e400", float("nan"), float("inf"), 1025, True, [2])
    ),
    *(
        (f"noise {noise!r}", {"noise": noise}, IllegalGrowthError, repr(noise), "1 is as large")
        for noise in (-1, float("nan"), float("inf"), "x", "0.1", True)
    ),
    *((f"seed {seed!r}", {"seed": seed}, IllegalGrowthError, repr(seed), None) for seed in (1.5, "x", None, 2**80)),
    *(
        (f"symmetry {text!r}", {"symmetry": text}, IllegalGrowthError, repr(text), "The default, auto, breaks")
        for text in ("loud", "noise", "split:1", "none:1")
    ),
    *(
        (f"heads {size!r}", {"heads": size}, IllegalGrowthError, repr(size), "'keep' to stay")
        for size in (0, -1, 6.0, "six", True)
    ),
    ("attention", {"attention": "nope"}, IllegalGrowthError, "'nope'", "heads or head-dim"),
    ("rope", {"rope": "nope"}, IllegalGrowthError, "'nope'", "slots or pairs"),
    ("scaling", {"scaling": "nope"}, IllegalGrowthError, "'nope'", "unit or orthogonal"),
]


@pytest.mark.parametrize(
    ("options", "error", "says", "step"), [row[1:] for row in WRONG_OPTIONS], ids=[row[0] for row in WRONG_OPTIONS]
)
def test_choice_is_refused(
    options: dict[str, Any], error: type[GrowthError], says: str, step: str | None, sources: Sources, tmp_path: Path
) -> None:
    name = next(iter(options))
    refused(sources["llama"], tmp_path / "wide", error, name, says, step=step, **options)
    with pytest.raises(error) as caught:
        growth.widen(llama(), **options)
    check_message(str(caught.value), (name, says), step)


@pytest.mark.parametrize(
    ("options", "step"),
    [
        *(({"max_shard_size": size}, "such as '5GB'") for size in ("0", 0, "-1", -5, "x", "", "inf", "nan", None)),
        *(
            ({"dtype": dtype}, "must be one of float64, float32, float16, bfloat16")
            for dtype in ("float8_e4m3fn", "nope", torch.int8)
        ),
        *(({"device": device}, "") for device in ("nope", "cuda:99")),
    ],
    ids=str,
)
def test_way_of_writing_is_refused(options: dict[str, Any], step: str, sources: Sources, tmp_path: Path) -> None:
    ((name, value),) = options.items()
    refused(
        sources["llama"],
        tmp_path / "wide",
        GrowthError,
        name,
        repr(value).strip("'"),
        step=step,
        planned=False,
        **options,
    )


@pytest.mark.parametrize(
    "name",
    [
        "org/no-such-model",
        "nosuchmodel",
        "a b/c",
        "no-such-folder",
        "./gone",
        "/gone/away",
        "org/model/gone",
        "x" * 300,
    ],
)
def test_source_that_is_nowhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused(name, tmp_path / "wide", CheckpointError, name.removeprefix("./")[:40])


def test_source_that_is_a_file(sources: Sources, tmp_path: Path) -> None:
    refused(sources["llama"] / "config.json", tmp_path / "wide", CheckpointError, "config.json is a file")


@pytest.mark.parametrize("overwrite", [False, True])
def test_destination_that_exists_is_kept(overwrite: bool, sources: Sources, tmp_path: Path) -> None:
    target = tmp_path / "wide"
    target.mkdir()
    (target / "thesis.txt").write_text("do not lose me")
    refused(sources["llama"], target, CheckpointError, str(target), "exists", planned=False, overwrite=overwrite)
    assert (target / "thesis.txt").read_text() == "do not lose me"


def test_model_that_exists_is_kept(sources: Sources, tmp_path: Path) -> None:
    target = Path(shutil.copytree(sources["bert"], tmp_path / "wide"))
    refused(sources["llama"], target, CheckpointError, str(target), "kept as it is", planned=False, step="--overwrite")


@pytest.mark.parametrize("overwrite", [False, True])
def test_file_in_the_way_is_kept(overwrite: bool, sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "wide").write_text("a file")
    refused(sources["llama"], tmp_path / "wide", CheckpointError, "wide exists", planned=False, overwrite=overwrite)
    refused(
        sources["llama"],
        tmp_path / "wide" / "below",
        CheckpointError,
        "wide/below",
        planned=False,
        step="try again|[Nn]ame",
    )


@pytest.mark.parametrize(
    "name", ["source", "source/wide", "source/new/wide", "other/../source/wide", "link/wide", "."]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_destination_and_source_inside_one_another(
    name: str, overwrite: bool, sources: Sources, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    source = Path(shutil.copytree(sources["llama"], home / "source"))
    (home / "other").mkdir()
    (home / "link").symlink_to(source)
    shutil.copyfile(source / "config.json", home / "config.json")
    says = () if name == "." or (name == "source" and not overwrite) else ("lies inside the other",)
    before = snapshot(home)
    refused(source, home / name, CheckpointError, *says, planned=False, overwrite=overwrite)
    assert snapshot(home) == before


def test_destination_name_is_too_long(sources: Sources, tmp_path: Path) -> None:
    refused(sources["llama"], tmp_path / ("x" * 300), CheckpointError, "xxx", planned=False)


@pytest.mark.parametrize("name", ["wide", "new/wide"])
def test_disk_space_is_checked_first(
    name: str, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def full(path: Path) -> SimpleNamespace:
        asked.append(Path(path))
        return SimpleNamespace(total=10**12, used=10**12 - 40_000_000, free=40_000_000)

    monkeypatch.setattr(shutil, "disk_usage", full)
    refused(
        sources["llama"],
        tmp_path / name,
        CheckpointError,
        str(tmp_path),
        "0.05 GB needed",
        "0.04 GB free",
        planned=False,
    )
    assert asked == [tmp_path]
