"""Symbolic links that leave the source are not followed, whatever the file; the hub's cache consists
of links, and is read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import growth
from growth import CheckpointError
from growth.checkpoint import companions, model_card
from growth.hf import source_files
from growth.hf.source_files import SourceFiles, leaves
from support.damage import INDEX, QUERY, SHARD, indexed
from support.refusals import Sources, offline, refused, sources

__all__ = ["offline", "sources"]

SECRET = b"the secret of somebody's home folder"


@pytest.fixture
def source(sources: Sources, tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    for name in ("secret", "secret.txt"):
        (tmp_path / "home" / name).write_bytes(SECRET)
    return Path(shutil.copytree(sources["llama"], tmp_path / "source"))


def secrets(folder: Path) -> list[str]:
    """The files that hold the secret or this process's environment."""
    environment = Path("/proc/self/environ").read_bytes() if Path("/proc/self/environ").exists() else SECRET
    read = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return [path.name for path, held in read.items() if SECRET in held or (environment and environment in held)]


def away(name: str) -> Callable[[Path], None]:
    """A file becomes a link to itself elsewhere."""

    def move(folder: Path) -> None:
        shutil.move(folder / name, folder.parent / "home" / name)
        (folder / name).symlink_to(folder.parent / "home" / name)

    return move


def away_behind_an_index(name: str) -> Callable[[Path], None]:
    def move(folder: Path) -> None:
        indexed({QUERY: SHARD})(folder)
        away(name)(folder)

    return move


def away_by_two_links(folder: Path) -> None:
    away("config.json")(folder)
    os.rename(folder / "config.json", folder / "other.json")
    (folder / "config.json").symlink_to("other.json")


@pytest.mark.parametrize(
    ("lay", "name"),
    [
        (away("config.json"), "config.json"),
        (away("model.safetensors"), "model.safetensors"),
        (away_behind_an_index(INDEX), INDEX),
        (away_behind_an_index(SHARD), SHARD),
        (away_by_two_links, "config.json"),
    ],
    ids=["config", "weights", "index", "shard", "two links"],
)
def test_a_link_that_leaves_is_refused(
    lay: Callable[[Path], None], name: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(source)
    says = (str(source / name), str(tmp_path / "home" / name), "such links are not followed", "cp -rL")
    refused(source, tmp_path / "to" / "wide", CheckpointError, *says, step=r"\. Copy the folder")
    shutil.copytree(source, tmp_path / "copy")  # follows links, as cp -rL does
    growth.plan_widening(tmp_path / "copy")


LINKS = {
    "tokenizer.json": "secret",
    "LICENSE": "secret",
    "README.md": "secret",
    "vocab.txt": "/proc/self/environ",
    "additional_chat_templates": "",
    "LICENSES": "",
}


def lay_links(source: Path, home: Path) -> None:
    for name, target in LINKS.items():
        (source / name).symlink_to(home / target)


def test_companions_behind_links_are_left_and_named(source: Path, tmp_path: Path) -> None:
    lay_links(source, tmp_path / "home")
    (source / "tokenizer_config.json").write_text("{}")
    (source / "merges.txt").symlink_to("tokenizer_config.json")  # stays inside
    result = growth.widen_checkpoint(source, tmp_path / "wide")
    assert not secrets(tmp_path / "wide") and (tmp_path / "wide" / "merges.txt").read_text() == "{}"
    for name, target in LINKS.items():
        said = f"{name} (a link to {os.path.realpath(tmp_path / 'home' / target)}, outside the folder)"
        assert said in result.left_behind and said in str(result)
    assert len(result.left_behind) == len(LINKS)


def test_followed_links_are_seen(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_links(source, tmp_path / "home")
    for module in (companions, model_card, source_files):
        monkeypatch.setattr(module, "leaves", lambda path, folder: None)
    growth.widen_checkpoint(source, tmp_path / "wide")
    assert {"tokenizer.json", "LICENSE", "README.md", "secret.txt"} <= set(secrets(tmp_path / "wide"))


def test_a_source_that_is_itself_a_link(source: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(source)
    assert growth.widen_checkpoint(tmp_path / "link", tmp_path / "wide").left_behind == ()


def cached(source: Path, folder: Path) -> Path:
    """The hub's cache: a snapshot of links into ``blobs``."""
    repository = folder / "models--org--model"
    snapshot = repository / "snapshots" / "0a1b"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, path in enumerate(sorted(source.iterdir())):
        shutil.copyfile(path, repository / "blobs" / f"{number:040x}")
        (snapshot / path.name).symlink_to(Path("../../blobs") / f"{number:040x}")
    return snapshot


def test_the_cache_of_the_hub_is_read(source: Path, tmp_path: Path) -> None:
    (source / "tokenizer.json").write_text("{}")
    snapshot = cached(source, tmp_path)
    result = growth.widen_checkpoint(snapshot, tmp_path / "wide")
    assert result.left_behind == () and (tmp_path / "wide" / "tokenizer.json").read_text() == "{}"
    assert not (tmp_path / "wide" / "tokenizer.json").is_symlink()


def test_a_cache_whose_blobs_are_links_is_not(source: Path, tmp_path: Path) -> None:
    (source / "LICENSE").write_text("free")
    snapshot = cached(source, tmp_path)
    blob = Path(os.path.realpath(snapshot / "LICENSE"))
    blob.unlink()
    blob.symlink_to(tmp_path / "home" / "secret")
    assert leaves(snapshot / "LICENSE", snapshot) == tmp_path / "home" / "secret"
    os.rename(blob.parent, tmp_path / "elsewhere")
    blob.parent.symlink_to(tmp_path / "elsewhere")
    refused(snapshot, tmp_path / "to" / "wide", CheckpointError, "config.json leads through", step=r"\. Copy")
    (tmp_path / "blobs").mkdir()
    shutil.copyfile(tmp_path / "home" / "secret", tmp_path / "blobs" / "secret")
    (source / "NOTICE").symlink_to("../blobs/secret")
    assert leaves(source / "NOTICE", source) is not None, "only a cache of the hub has its blobs there"


def test_a_link_made_between_look_and_reading(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source / "LICENSE").write_text("free")
    files = SourceFiles(source)
    files.note(source / "LICENSE")
    compare = files._compare

    def swapped(self: SourceFiles, path: Path, status: os.stat_result) -> None:
        compare(path, status)
        path.unlink(missing_ok=True)
        path.symlink_to(tmp_path / "home" / "secret")

    monkeypatch.setattr(SourceFiles, "_compare", swapped)
    with pytest.raises(CheckpointError, match="LICENSE cannot be read: Too many levels of symbolic links"):
        files.copy(source / "LICENSE", tmp_path / "LICENSE")
    assert (tmp_path / "LICENSE").read_bytes() == b""
