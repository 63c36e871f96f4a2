"""What is not read of a folder of FSDP: code in its pickles, files elsewhere, and tensors that are damaged or not
the model's. Each is one sentence with the next step, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from click.testing import CliRunner

import growth
from growth.cli.main import grow
from growth.hf.dcp_metadata import read_metadata
from support.fsdp_runs import MODELS, write_config
from support.refusals import check_message

from .conftest import FsdpSource

Damage = Callable[[Path], Any]
MODEL, OPTIMIZER = "pytorch_model_fsdp_0", "optimizer_0"


@pytest.fixture
def source(fsdp_source: FsdpSource, tmp_path: Path) -> tuple[Path, Path]:
    """A copy to damage, and the file of its config."""
    folder, config, _ = fsdp_source("tied")
    return shutil.copytree(folder, tmp_path / "state"), config


def refused(
    folder: Path, config: Path | None, *says: str, optimizer: bool = True, step: str | None = None, **choices: Any
) -> None:
    """Growth refuses a folder in one sentence, and nothing is left."""
    wide = folder.parent / "wide"
    with pytest.raises(growth.GrowthError) as caught:
        growth.widen_checkpoint(folder, wide, config=config, optimizer=optimizer, **{"width": 2, **choices})
    check_message(str(caught.value), says, step)
    assert not wide.exists() and not (folder.parent / ".wide.growing").exists()


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the metadata of a folder that the tests wrote."""
    metadata = pickle.loads((path / ".metadata").read_bytes())
    changed = change(metadata)
    (path / ".metadata").write_bytes(pickle.dumps(metadata if changed is None else changed))


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a folder as torch.distributed.checkpoint does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that there is no process group
        dcp.save(state, checkpoint_id=path)


class Planted:
    """What runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def properties(metadata: Any) -> Any:
    return next(one for one in metadata.state_dict_metadata.values() if hasattr(one, "properties"))


class Stating:
    """An object of a class that may be named, with a state that runs a command."""

    def __init__(self, kind: type, planted: Planted) -> None:
        self.kind, self.planted = kind, planted

    def __reduce__(self) -> Any:
        return object.__new__, (self.kind,), (self.planted,)


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


def as_a_key(metadata: Any, planted: Planted) -> None:
    metadata.storage_data[planted] = 1


def as_a_version(metadata: Any, planted: Planted) -> None:
    metadata.version = planted


PLANTED = [at_top, in_planner_data, in_a_nested_list, in_a_state, in_a_size, as_a_key, as_a_version]


@pytest.mark.parametrize("plant", PLANTED)
@pytest.mark.parametrize("part", [MODEL, OPTIMIZER])
def test_no_code_in_metadata_is_run(plant: Any, part: str, source: tuple[Path, Path], tmp_path: Path) -> None:
    folder, config = source
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


def test_no_code_in_an_entry_is_run(source: tuple[Path, Path], tmp_path: Path) -> None:
    folder, config = source
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


@pytest.mark.parametrize("path", ["../../x", "/etc/passwd", "..", "", "sub/__0_0.distcp", "a\0b"])
def test_no_file_elsewhere_is_read(path: str, source: tuple[Path, Path]) -> None:
    folder, config = source

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
def test_links_out_of_the_folder_are_not_followed(name: str, part: str, source: tuple[Path, Path]) -> None:
    folder, config = source
    link(folder / part / name)
    refused(folder, config, "through a symbolic link", "elsewhere", "Copy the folder", step="Copy the folder")


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def garbled(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[200:4000] = bytes(3800)
    path.write_bytes(content)


def shifted(metadata: Any) -> None:
    tensor = properties(metadata)
    tensor.chunks[1].offsets = torch.Size([tensor.chunks[1].offsets[0] - 1, *tensor.chunks[1].offsets[1:]])


def without_chunk(metadata: Any) -> None:
    properties(metadata).chunks.pop()


def without_place(metadata: Any) -> None:
    metadata.storage_data.pop(next(iter(metadata.storage_data)))


def without_tensor(metadata: Any) -> None:
    for part in (metadata.state_dict_metadata, metadata.planner_data):
        del part["model.model.norm.weight"]


def foreign_tensor(metadata: Any) -> None:
    for part in (metadata.state_dict_metadata, metadata.planner_data):
        part["model.model.extra"] = part["model.model.norm.weight"]
    metadata.planner_data["model.model.extra"] = ("model", "model.extra")
    for index, info in list(metadata.storage_data.items()):
        if index.fqn == "model.model.norm.weight":
            metadata.storage_data[type(index)("model.model.extra", index.offset)] = info


def flat(metadata: Any) -> None:
    metadata.planner_data["model.model.norm.weight"] = ("model", "_fsdp_wrapped_module._flat_param")


def adapter(metadata: Any) -> None:
    metadata.planner_data["model.model.norm.weight"] = ("model", "base_model.q_proj.lora_A.default.weight")


def huge(metadata: Any) -> None:
    properties(metadata).size = torch.Size([2**60, 2**60])


def compressed(metadata: Any) -> None:
    next(iter(metadata.storage_data.values())).transform_descriptors = ["zstd"]


def unnested(metadata: Any) -> None:
    metadata.planner_data = {key: (key,) for key in metadata.state_dict_metadata}


DAMAGED: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "metadata is gone": (lambda f: (f / MODEL / ".metadata").unlink(), (".metadata cannot be read", "Check")),
    "metadata is empty": (lambda f: cut(f / MODEL / ".metadata", 0), ("is not whole metadata", "Fetch")),
    "metadata is cut": (lambda f: cut(f / MODEL / ".metadata", 999), ("is not whole metadata", "Fetch")),
    "metadata is JSON": (lambda f: (f / MODEL / ".metadata").write_text("{}"), ("is not whole metadata", "Fetch")),
    "a file is gone": (
        lambda f: (f / MODEL / "__1_0.distcp").unlink(),
        ("lacks '__1_0.distcp'", "every rank wrote one"),
    ),
    "a file is cut": (lambda f: cut(f / MODEL / "__0_0.distcp", 5000), ("__0_0.distcp is cut short", "Fetch")),
    "a file is garbled": (lambda f: garbled(f / MODEL / "__0_0.distcp"), ("cannot be read", "Fetch the files again")),
    "an optimizer file is gone": (
        lambda f: (f / OPTIMIZER / "__0_0.distcp").unlink(),
        ("lacks '__0_0.distcp'", "Fetch"),
    ),
    "a chunk is shifted": (lambda f: edit(f / MODEL, shifted), ("do not fill", "exactly once", "Fetch")),
    "a chunk is missing": (lambda f: edit(f / MODEL, without_chunk), ("the 1 chunks of", "exactly once")),
    "a place is missing": (lambda f: edit(f / MODEL, without_place), ("does not say where", "Fetch")),
    "a tensor is missing": (
        lambda f: edit(f / MODEL, without_tensor),
        ("lacks 'model.norm.weight'", "Name the config"),
    ),
    "a tensor is foreign": (lambda f: edit(f / MODEL, foreign_tensor), ("'model.extra'", "does not have", "Name")),
    "flat parameters": (lambda f: edit(f / MODEL, flat), ("flat piece of FSDP1", "SHARDED_STATE_DICT")),
    "an adapter": (lambda f: edit(f / MODEL, adapter), ("PEFT adapter", "merge_and_unload")),
    "a size beyond any": (lambda f: edit(f / MODEL, huge), ("is no size", "Fetch")),
    "compressed": (lambda f: edit(f / MODEL, compressed), ("compressed or encrypted", "zstd")),
    "another layout": (lambda f: edit(f / MODEL, unnested), ("below 'model'", "accelerator.save_state")),
    "no optimizer": (lambda f: shutil.rmtree(f / OPTIMIZER), ("has no 'optimizer_0'", "leave --optimizer out")),
    "two models": (lambda f: (f / "pytorch_model_fsdp_1").mkdir(), ("several models", "SHARDED_STATE_DICT")),
    "two optimizers": (lambda f: (f / "optimizer_1").mkdir(), ("several models or optimizers",)),
    "a file for each rank": (
        lambda f: (f / "pytorch_model_fsdp_0_rank0.bin").write_bytes(b""),
        ("'pytorch_model_fsdp_0_rank0.bin'", "use_dcp=False", "SHARDED_STATE_DICT"),
    ),
    "flat files": (
        lambda f: (f / "pytorch_model_fsdp_rank0.bin").write_bytes(b""),
        ("LOCAL_STATE_DICT", "SHARDED_STATE_DICT"),
    ),
    "progress alone": (
        lambda f: (f / "trainer_state.json").write_text('{"global_step": 2}'),
        ("has no scheduler.pt",),
    ),
}


@pytest.mark.parametrize("how", DAMAGED)
def test_damage_is_named(how: str, source: tuple[Path, Path]) -> None:
    damage, says = DAMAGED[how]
    damage(source[0])
    refused(*source, *says)


def other_shape(raw: dict[str, Any]) -> None:
    raw["intermediate_size"] = 43


def other_class(raw: dict[str, Any]) -> None:
    raw["architectures"] = ["LlamaModel"]


def more_layers(raw: dict[str, Any]) -> None:
    raw["num_hidden_layers"] = 3


CONFIGS: list[tuple[Any, tuple[str, ...]]] = [
    (other_shape, ("has shape [41, 24]", "makes it [43, 24]", "Name the config")),
    (other_class, ("LlamaModel", "does not have", "Name the config")),
    (more_layers, ("lacks 'model.layers.2.", "Name the config")),
]


@pytest.mark.parametrize(("change", "says"), CONFIGS, ids=[change.__name__ for change, _ in CONFIGS])
def test_a_config_that_is_another_models(
    change: Any, says: tuple[str, ...], fsdp_source: FsdpSource, tmp_path: Path
) -> None:
    folder, config, _ = fsdp_source("tied")
    raw = json.loads(config.read_text())
    change(raw)
    (tmp_path / "config.json").write_text(json.dumps(raw))
    (tmp_path / "state").symlink_to(folder)
    refused(tmp_path / "state", tmp_path / "config.json", *says)


def test_no_config_and_no_such_config(source: tuple[Path, Path], tmp_path: Path) -> None:
    folder = source[0]
    refused(folder, None, "as FSDP saves it ('pytorch_model_fsdp_0')", "Name the model's config.json", "--config")
    refused(folder, tmp_path / "nowhere.json", "no such config", "Name a config.json")
    refused(folder, folder / MODEL, "has no config.json", "Name the file")
    (tmp_path / "list.json").write_text("[]")
    refused(folder, tmp_path / "list.json", "does not hold a JSON object", "Name")


def test_a_config_is_of_fsdp_only(source: tuple[Path, Path], tmp_path: Path) -> None:
    config = source[1]
    MODELS["tied"]().save_pretrained(tmp_path / "model")
    refused(
        tmp_path / "model", config, "--config (config=) names the config of a folder", "Remove it", optimizer=False
    )


def test_tied_weights_that_differ(source: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = source
    untied = MODELS["llama"]().state_dict()
    shutil.rmtree(folder / MODEL)
    save(folder / MODEL, {"model": dict(untied)})
    config = write_config(tmp_path / "c", "tied")
    refused(folder, config, "are one weight by the config", "Set tie_word_embeddings", optimizer=False)


def test_not_finite(source: tuple[Path, Path], tmp_path: Path) -> None:
    folder, config = source
    state = MODELS["tied"]().state_dict()
    state["model.norm.weight"][3] = float("nan")
    shutil.rmtree(folder / MODEL)
    save(folder / MODEL, {"model": dict(state)})
    refused(folder, config, "'model.norm.weight' holds NaN", optimizer=False)
    growth.widen_checkpoint(folder, tmp_path / "wide", config=config, width=2, allow_nonfinite=True)


def test_the_source_may_not_change(source: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, config = source
    touched = []

    def touch(done: int, size: int, name: str) -> None:
        if not touched:
            touched.append(name)
            with (folder / OPTIMIZER / "__0_0.distcp").open("ab") as file:
                file.write(b"more")

    refused(folder, config, "changed while it was read", progress=touch)


def test_the_command(source: tuple[Path, Path], tmp_path: Path) -> None:
    folder, config = source
    command = ["--config", str(config), "--width", "2", "--noise", "1"]
    planned = CliRunner().invoke(grow, ["plan", str(folder), *command], catch_exceptions=False)
    assert planned.exit_code == 0 and "hidden_size" in planned.output
    assert f"next: grow widen {folder} DST --config {config} --width 2 --noise 1" in planned.output
    written = CliRunner().invoke(
        grow, ["widen", str(folder), str(tmp_path / "wide"), *command, "--optimizer", "--json"], catch_exceptions=False
    )
    assert written.exit_code == 0, written.output
    assert (tmp_path / "wide" / OPTIMIZER / ".metadata").is_file()


def test_a_plan_reads_no_weight(source: tuple[Path, Path]) -> None:
    folder, config = source
    for part in (folder / MODEL).glob("*.distcp"):
        part.write_bytes(bytes(part.stat().st_size))
    plan = growth.plan_widening(folder, config=config, width=2)
    assert plan.new_sizes["hidden_size"] == 48 and "lm_head.weight" not in plan.tensors
