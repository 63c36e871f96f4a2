"""No code in the pickles of an FSDP folder is run, and no file elsewhere is read."""

from __future__ import annotations

import os
import pickle
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

import growth
from growth.hf.dcp_metadata import read_metadata
from support.fsdp_damage import MODEL, OPTIMIZER, edit, properties, refused, save
from support.fsdp_runs import MODELS


class Planted:
    """What runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def at_top(metadata: Any, planted: Planted) -> Any:
    return planted


def in_planner_data(metadata: Any, planted: Planted) -> None:
    metadata.planner_data["x"] = ("model", planted)


def in_a_nested_list(metadata: Any, planted: Planted) -> None:
    metadata.storage_meta = [[{"deep": (planted,)}]]


def in_a_state(metadata: Any, planted: Planted) -> None:
    vars(metadata)["more"] = planted  # of an allowed class, whose state it is


def in_a_size(metadata: Any, planted: Planted) -> None:
    properties(metadata).chunks[0].offsets = planted


def in_a_dtype(metadata: Any, planted: Planted) -> None:
    properties(metadata).properties.dtype = planted  # of a class with a __setstate__, which gets it


def as_a_key(metadata: Any, planted: Planted) -> None:
    metadata.storage_data[planted] = 1


def as_a_version(metadata: Any, planted: Planted) -> None:
    metadata.version = planted


PLANTED = [at_top, in_planner_data, in_a_nested_list, in_a_state, in_a_size, in_a_dtype, as_a_key, as_a_version]


@pytest.mark.parametrize("plant", PLANTED)
@pytest.mark.parametrize("part", [MODEL, OPTIMIZER])
def test_no_code_in_metadata_is_run(plant: Any, part: str, damaged_source: tuple[Path, Path], tmp_path: Path) -> None:
    folder, config = damaged_source
    edit(folder / part, lambda metadata: plant(metadata, Planted(tmp_path / "marker")))
    refused(folder, config, ".metadata names 'posix.system'", "could run code", "nothing of it was read", "Save")
    assert not (tmp_path / "marker").exists()
    pickle.loads((folder / part / ".metadata").read_bytes())  # it is really planted
    assert (tmp_path / "marker").exists()


def call(module: str, name: str, *arguments: str) -> bytes:
    """A pickle that calls a function with strings."""
    text = b"".join(b"X" + struct.pack("<I", len(one)) + one.encode() for one in arguments)
    named = b"".join(b"\x8c" + bytes([len(one)]) + one.encode() for one in (module, name))
    return b"\x80\x04" + named + b"\x93(" + text + b"tR."


NAMES = [
    ("builtins", "eval"),
    ("builtins", "getattr"),
    ("builtins", "__import__"),
    ("os", "system"),
    ("subprocess", "check_output"),
    ("torch", "load"),
    ("torch", "Tensor"),
    ("torch.serialization", "load"),
    ("torch.distributed.checkpoint.filesystem", "os.system"),
    ("torch.distributed.checkpoint.filesystem", "pickle.loads"),
    ("torch.distributed.checkpoint.filesystem", "FileSystem"),
    ("torch.distributed.checkpoint.metadata", "os"),
    ("torch.distributed.checkpoint.metadata", "Metadata.__init__"),
    ("torch.distributed.checkpoint.metadata", "dataclass"),
    ("torch.distributed.checkpoint.metadata_", "Metadata"),
    ("pathlib", "Path"),
    ("pathlib", "os.system"),
    ("copyreg", "_reconstructor"),
    ("collections", "OrderedDict"),
]


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[".".join(pair) for pair in NAMES])
def test_only_listed_names_are_found(module: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(growth.CheckpointError, match="is no part of the metadata"):
        read_metadata(tmp_path / ".metadata", call(module, name, f"touch {tmp_path}/marker"))
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    "content", [b"}r\xff\xff\xff\x7f.", b"cposix\nsystem\n.", b"Pname\n.", b"\x82\x01.", b"(iposix\nsystem\n."]
)
def test_only_listed_operations_are_carried_out(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(growth.CheckpointError, match="is no part of one"):
        read_metadata(tmp_path / ".metadata", b"\x80\x04" + content)


def test_a_pickle_cannot_change_the_classes_it_names(tmp_path: Path) -> None:
    from torch.distributed.checkpoint.metadata import Metadata

    before = dict(vars(Metadata))
    named = b"\x8c\x25torch.distributed.checkpoint.metadata\x8c\x08Metadata\x93"
    for build in (
        b"N}\x8c\x0c__setstate__NsX\x00\x00\x00\x00\x86b.",
        b"N}\x8c\x07planted\x88s\x86b.",
        b"}\x8c\x01a\x88sb.",
    ):
        with pytest.raises(growth.CheckpointError):
            read_metadata(tmp_path / ".metadata", b"\x80\x04" + named + build)
    assert dict(vars(Metadata)) == before


def test_no_code_in_an_entry_is_run(damaged_source: tuple[Path, Path], tmp_path: Path) -> None:
    folder, config = damaged_source
    name = "model.embed_tokens.weight"
    shape = MODELS["tied"]().get_parameter(name).shape
    shutil.rmtree(folder / OPTIMIZER)
    state = {name: {"step": torch.tensor(2.0), "exp_avg": torch.zeros(shape), "exp_avg_sq": torch.zeros(shape)}}
    groups = [{"lr": Planted(tmp_path / "marker"), "betas": (0.9, 0.99), "eps": 1e-8, "params": [name]}]
    save(folder / OPTIMIZER, {"optimizer": {"state": state, "param_groups": groups}})
    refused(folder, config, "'optimizer.param_groups.0.lr'", "cannot be read safely", "runs code", "Save")
    assert not (tmp_path / "marker").exists()
    shutil.rmtree(folder / MODEL)
    save(folder / MODEL, {"model": {name: Planted(tmp_path / "marker")}})
    refused(folder, config, f"'model.{name}'", "below 'model'", optimizer=False)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("path", ["../../x", "/etc/passwd", "..", "", "sub/__0_0.distcp", "a\0b", "a" * 256])
def test_no_file_elsewhere_is_read(path: str, damaged_source: tuple[Path, Path]) -> None:
    folder, config = damaged_source

    def redirect(metadata: Any) -> None:
        for info in metadata.storage_data.values():
            info.relative_path = path

    edit(folder / MODEL, redirect)
    refused(folder, config, "which is no file beside it", "Fetch")


def link(path: Path) -> None:
    """Put a file, or a folder, elsewhere, and a link in its place."""
    away = path.parents[2] / "elsewhere"
    away.mkdir(exist_ok=True)
    shutil.move(path, away / path.name)
    path.symlink_to(away / path.name)


@pytest.mark.parametrize("name", [".metadata", "__1_0.distcp"])
@pytest.mark.parametrize("part", [MODEL, OPTIMIZER])
def test_links_out_of_the_folder_are_not_followed(name: str, part: str, damaged_source: tuple[Path, Path]) -> None:
    folder, config = damaged_source
    link(folder / part / name)
    refused(folder, config, "through a symbolic link", "elsewhere", "Copy the folder", step="Copy the folder")
