"""How a destination may be spelled, and that it takes its place whole or not at all."""

from __future__ import annotations

import os
import shutil
from operator import attrgetter
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

import growth
from growth.checkpoint import destination as module
from growth.checkpoint import durable
from growth.checkpoint.destination import appearing, check_target, destination
from growth.checkpoint.model_folder import looks_like_a_model
from growth.hf.paths import local_path, workspace_of
from support.crashes import CTRL_C, DISK_FULL, Bomb, Failure, source
from support.refusals import check_message, snapshot
from support.small_models import SIZES

__all__ = ["source"]  # a fixture


@pytest.fixture
def model(source: Path, tmp_path: Path) -> Path:
    """A model in a folder of its own."""
    return Path(shutil.copytree(source, tmp_path / "wide"))


def put(folder: Path, name: str) -> None:
    """A file, or an empty folder where the name ends with a slash."""
    path = folder / name
    if name.endswith("/"):
        path.mkdir(parents=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")


def test_an_empty_folder_is_as_good_as_none(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "wide"
    target.mkdir(mode=0o750)
    growth.widen_checkpoint(source, target)
    assert target.stat().st_mode & 0o777 == 0o750 and looks_like_a_model(target)
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_to_a_model_is_replaced_and_the_model_stays(source: Path, model: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(model)
    before = snapshot(model)
    growth.widen_checkpoint(source, link, overwrite=True)
    assert not link.is_symlink() and looks_like_a_model(link) and snapshot(model) == before


@pytest.mark.parametrize("where", ["nowhere", "empty"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_link_to_no_model_is_kept(where: str, overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / where)
    with pytest.raises(growth.CheckpointError) as caught:
        check_target(tmp_path / "link", overwrite)
    check_message(str(caught.value), ("link exists",))
    assert (tmp_path / "link").is_symlink()


def test_the_working_directory_is_kept(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model)
    with pytest.raises(growth.CheckpointError, match="is the working directory"):
        check_target(destination("."), overwrite=True)


@pytest.mark.parametrize("target", ["/", "/proc"])
def test_a_mount_point_is_refused_before_anything_is_written(target: str) -> None:
    with pytest.raises(growth.CheckpointError, match="is a mount point") as caught:
        check_target(destination(target), overwrite=True)
    check_message(str(caught.value), (target,))


@pytest.mark.parametrize(
    ("spelled", "says"),
    [
        ("", "is empty"),
        ("a\0b", r"'a\x00b'"),
        ("x" * 300, "File name too long"),
        ("a/" * 3000, "File name too long"),
        ("\ud800", "cannot be the name of a file"),
        ("~nobody-of-this-name/x", "has no home folder"),
    ],
)
def test_a_destination_that_cannot_be(
    spelled: str, says: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(growth.CheckpointError) as caught:
        growth.widen_checkpoint(source, spelled)
    check_message(str(caught.value), (says,))
    assert list(tmp_path.iterdir()) == []


def test_a_destination_as_people_spell_it(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    shutil.copytree(source, home / "small")
    for spelled, lies in (("~/wide/", home / "wide"), ("./~", here / "~"), ("wide//x/../y", here / "wide" / "y")):
        assert growth.widen_checkpoint("~/small", spelled).path == lies
    assert sorted(path.name for path in home.iterdir()) == ["small", "wide"]
    assert growth.plan_widening("~/small", like="~/wide").new_sizes["hidden_size"] == 48
    assert local_path("~") == home


@pytest.mark.parametrize("name", ["y" * 255, "é" * 127, "名" * 85, "z" * 243])
def test_the_longest_names_there_are(name: str, source: Path, tmp_path: Path) -> None:
    assert len(os.fsencode(workspace_of(tmp_path / name).name)) < 143
    assert workspace_of(tmp_path / name) != workspace_of(tmp_path / (name[:-1] + "x"))
    growth.widen_checkpoint(source, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.fixture(params=["exchange", "two renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The two ways to take the place of another folder."""
    if request.param == "two renames":
        monkeypatch.setattr(module, "exchanged", lambda one, other: False)
    return str(request.param)


@pytest.mark.usefixtures("way")
def test_the_old_model_is_replaced_in_both_ways(model: Path) -> None:
    torch.manual_seed(1)
    with appearing(model, overwrite=True) as folder:
        BertForMaskedLM(BertConfig(num_attention_heads=4, **SIZES)).save_pretrained(folder)
        new = snapshot(folder)
    assert snapshot(model) == new and list(model.parent.iterdir()) == [model]


STEPS = [
    *(("exchange", step) for step in ("force", "exchanged", "force_one")),
    *(("two renames", step) for step in ("force", "rename 0", "rename 1", "force_one")),
]


@pytest.mark.parametrize(("way", "step"), STEPS, indirect=["way"])
@pytest.mark.parametrize("failure", [DISK_FULL, CTRL_C], ids=attrgetter("name"))
def test_a_failure_while_taking_its_place_keeps_what_was_there(
    step: str, failure: Failure, way: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _, number = step.partition(" ")
    owner = os if name == "rename" else module
    bomb = Bomb(getattr(owner, name), failure.raises, int(number or 0), once=True)
    before = snapshot(model.parent)
    monkeypatch.setattr(owner, name, bomb)
    with pytest.raises(failure.error) as caught, appearing(model, overwrite=True) as folder:
        (folder / "config.json").write_text("{}")
    assert failure.said in str(caught.value)
    if failure is DISK_FULL:
        check_message(str(caught.value), ("Nothing was left behind",))
    assert bomb.burst and snapshot(model.parent) == before


def test_a_failure_to_reach_the_disk_keeps_a_fresh_destination_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: Path) -> None:
        raise DISK_FULL.raises()

    monkeypatch.setattr(module, "force_one", failing)
    with pytest.raises(growth.CheckpointError), appearing(tmp_path / "new" / "wide", overwrite=False) as folder:
        (folder / "config.json").write_text("{}")
    assert list(tmp_path.iterdir()) == []


def test_what_appears_in_the_meantime_is_kept(model: Path, tmp_path: Path) -> None:
    for target, overwrite in ((model, True), (tmp_path / "fresh", False)):
        with (
            pytest.raises(growth.CheckpointError, match=r"fresh exists|wide holds"),
            appearing(target, overwrite) as folder,
        ):
            (folder / "config.json").write_text("{}")
            put(target, "thesis.txt")
        assert (target / "thesis.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "wide"]


def test_all_is_on_the_disk_before_it_takes_its_place(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the system's calls: every file and folder, the exchange, the parent; and the
    old model is there until then."""
    seen: list[str] = []
    sync, close, exchange = os.fsync, os.close, module.exchanged

    def fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        seen.append(str(path.relative_to(model.parent)))
        sync(descriptor)

    def exchanged(one: Path, other: Path) -> bool:
        seen.append("exchange")
        return exchange(one, other)

    def closed(descriptor: int) -> None:
        if seen and seen[-1] == "." and (workspace_of(model) / "new" / "config.json").exists():
            seen.append("the old one is there")
        close(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(module, "exchanged", exchanged)
    monkeypatch.setattr(os, "close", closed)
    with appearing(model, overwrite=True) as folder:
        put(folder, "config.json")
        put(folder, "1_Pooling/config.json")
    new = ".wide.growing/new"
    assert set(seen[:4]) == {new, f"{new}/config.json", f"{new}/1_Pooling", f"{new}/1_Pooling/config.json"}
    assert seen[4:] == ["exchange", ".", "the old one is there"]


def test_two_paths_change_places(tmp_path: Path) -> None:
    put(tmp_path, "a/one")
    put(tmp_path, "b/two")
    assert durable.exchanged(tmp_path / "a", tmp_path / "b")
    assert snapshot(tmp_path).keys() == {"a", "b", "a/two", "b/one"}
    with pytest.raises(FileNotFoundError):
        durable.exchanged(tmp_path / "a", tmp_path / "gone")


@pytest.mark.parametrize("kind", ["notes", "file", "dangling link", "working directory"])
def test_overwrite_is_not_offered_where_it_would_be_refused(
    kind: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "wide"
    if kind == "notes":
        put(target, "notes.txt")
    elif kind == "file":
        target.write_text("mine")
    elif kind == "dangling link":
        target.symlink_to(tmp_path / "nowhere")
    else:
        shutil.copytree(source, target)
        monkeypatch.chdir(target)
    for overwrite in (False, True):
        with pytest.raises(growth.CheckpointError) as refusal:
            check_target(target, overwrite)
        assert "replace it with --overwrite" not in str(refusal.value)


def test_a_result_is_as_private_as_its_source(source: Path, tmp_path: Path) -> None:
    private = Path(shutil.copytree(source, tmp_path / "private"))
    private.chmod(0o700)
    for path in private.iterdir():
        path.chmod(0o640 if path.name == "config.json" else 0o600)
    growth.widen_checkpoint(private, tmp_path / "wide")
    assert (tmp_path / "wide").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "wide").iterdir()} == {0o600}
    growth.widen_checkpoint(source, tmp_path / "open")
    assert (tmp_path / "open" / "config.json").stat().st_mode & 0o777 == (
        source / "config.json"
    ).stat().st_mode & 0o777
