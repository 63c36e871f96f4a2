"""What is not grown of a folder of FSDP: tensors that are damaged, missing or not the model's. Each is said in one
sentence with the next step, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from huggingface_hub import constants

import growth
from growth.cli.main import grow
from support.fsdp_damage import MODEL, OPTIMIZER, edit, properties, refused, save
from support.fsdp_runs import MODELS, write_config

from .conftest import FsdpSource

Damage = Callable[[Path], Any]


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


def add(metadata: Any, name: str) -> None:
    """Add a tensor with the values of another."""
    key, other = f"model.{name}", "model.model.norm.weight"
    metadata.state_dict_metadata[key] = metadata.state_dict_metadata[other]
    metadata.planner_data[key] = ("model", name)
    for index, info in list(metadata.storage_data.items()):
        if index.fqn == other:
            metadata.storage_data[type(index)(key, index.offset)] = info


def foreign_tensor(metadata: Any) -> None:
    add(metadata, "model.extra")


def flat(metadata: Any) -> None:
    add(metadata, "_fsdp_wrapped_module._flat_param")


def adapter(metadata: Any) -> None:
    add(metadata, "base_model.q_proj.lora_A.default.weight")


def swapped(metadata: Any) -> None:
    paths = metadata.planner_data
    one, other = (f"model.model.layers.0.self_attn.{name}_proj.weight" for name in "qo")
    paths[one], paths[other] = paths[other], paths[one]


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
    "two names are swapped": (lambda f: edit(f / MODEL, swapped), ("is said to have stood at", "Fetch")),
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
def test_damage_is_named(how: str, damaged_source: tuple[Path, Path]) -> None:
    damage, says = DAMAGED[how]
    damage(damaged_source[0])
    refused(*damaged_source, *says)


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


def test_no_config_and_no_such_config(damaged_source: tuple[Path, Path], tmp_path: Path) -> None:
    folder = damaged_source[0]
    refused(folder, None, "as FSDP saves it ('pytorch_model_fsdp_0')", "Name the model's config.json", "--config")
    refused(folder, tmp_path / "nowhere.json", "no such config", "Name a config.json")
    refused(folder, folder / MODEL, "has no config.json", "Name the file")
    (tmp_path / "list.json").write_text("[]")
    refused(folder, tmp_path / "list.json", "does not hold a JSON object", "Name")


def test_a_config_is_of_fsdp_only(damaged_source: tuple[Path, Path], tmp_path: Path) -> None:
    config = damaged_source[1]
    MODELS["tied"]().save_pretrained(tmp_path / "model")
    refused(
        tmp_path / "model", config, "--config (config=) names the config of a folder", "Remove it", optimizer=False
    )


def test_tied_weights_that_differ(damaged_source: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = damaged_source
    untied = MODELS["llama"]().state_dict()
    shutil.rmtree(folder / MODEL)
    save(folder / MODEL, {"model": dict(untied)})
    config = write_config(tmp_path / "c", "tied")
    refused(folder, config, "are one weight by the config", "Set tie_word_embeddings", optimizer=False)


def test_not_finite(damaged_source: tuple[Path, Path], tmp_path: Path) -> None:
    folder, config = damaged_source
    state = MODELS["tied"]().state_dict()
    state["model.norm.weight"][3] = float("nan")
    shutil.rmtree(folder / MODEL)
    save(folder / MODEL, {"model": dict(state)})
    refused(folder, config, "'model.norm.weight' holds NaN", optimizer=False)
    growth.widen_checkpoint(folder, tmp_path / "wide", config=config, width=2, allow_nonfinite=True)


def test_the_source_may_not_change(
    damaged_source: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, config = damaged_source
    touched = []

    def touch(done: int, size: int, name: str) -> None:
        if not touched:
            touched.append(name)
            with (folder / OPTIMIZER / "__0_0.distcp").open("ab") as file:
                file.write(b"more")

    refused(folder, config, "changed while it was read", progress=touch)


def test_the_command(damaged_source: tuple[Path, Path], tmp_path: Path) -> None:
    folder, config = damaged_source
    command = ["--config", str(config), "--width", "2", "--noise", "1"]
    planned = CliRunner().invoke(grow, ["plan", str(folder), *command], catch_exceptions=False)
    assert planned.exit_code == 0 and "hidden_size" in planned.output
    assert f"next: grow widen {folder} DST --config {config} --width 2 --noise 1" in planned.output
    written = CliRunner().invoke(
        grow, ["widen", str(folder), str(tmp_path / "wide"), *command, "--optimizer", "--json"], catch_exceptions=False
    )
    assert written.exit_code == 0, written.output
    assert (tmp_path / "wide" / OPTIMIZER / ".metadata").is_file()


def test_a_config_of_the_hub(
    damaged_source: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, config = damaged_source
    repository = tmp_path / "hub" / "models--org--small"
    for name in ("blobs", "refs", "snapshots/0a1b"):
        (repository / name).mkdir(parents=True)
    (repository / "refs" / "main").write_text("0a1b")
    (repository / "blobs" / "c0ffee").write_bytes(config.read_bytes())
    (repository / "snapshots" / "0a1b" / "config.json").symlink_to("../../blobs/c0ffee")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    growth.widen_checkpoint(folder, tmp_path / "grown", config="org/small", width=2)
    record = json.loads((tmp_path / "grown" / "growth.json").read_text())
    assert record["source"]["config"] == "org/small" and "config.json" in record["source"]["sha256"]
    refused(folder, "org/none", "'org/none' is neither a folder here nor in the hub's cache")


def test_a_plan_reads_no_weight(damaged_source: tuple[Path, Path]) -> None:
    folder, config = damaged_source
    for part in (folder / MODEL).glob("*.distcp"):
        part.write_bytes(bytes(part.stat().st_size))
    plan = growth.plan_widening(folder, config=config, width=2)
    assert plan.new_sizes["hidden_size"] == 48 and "lm_head.weight" not in plan.tensors
