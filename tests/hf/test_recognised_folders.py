"""Mistakes about the source that can be told from what lies there, and what the hub answers: each
is named, with what to do instead."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import BertConfig

import growth
from growth import CheckpointError, IllegalGrowthError
from growth.hf import folders, reader
from growth.hf.dtypes import FLOATS, float_dtype
from growth.hf.hub import hub_error
from support.refusals import Sources, check_message, offline, refused, sources

__all__ = ["offline", "sources"]  # fixtures, the first for every test here

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 538090408\n"


def adapter(folder: Path, model: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"")


def adapter_with_config(folder: Path, model: Path) -> None:
    adapter(folder, model)
    shutil.copyfile(model / "config.json", folder / "config.json")


def adapter_of_a_base(folder: Path, model: Path) -> None:
    """A checkpoint of Trainer and PEFT in the middle of training."""
    about = {"peft_type": "LORA", "base_model_name_or_path": "org/base", "r": 8}
    (folder / "adapter_config.json").write_text(json.dumps(about))
    for name in ("adapter_model.safetensors", "optimizer.pt", "trainer_state.json"):
        (folder / name).write_bytes(b"{}")


def prompt(folder: Path, model: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "PROMPT_TUNING"}))


def adapter_beside_weights(folder: Path, model: Path) -> None:
    shutil.copytree(model, folder, dirs_exist_ok=True)
    adapter(folder, model)


def beside(*names: str) -> Callable[[Path, Path], None]:
    """A folder with the config, and files of these names."""

    def lay(folder: Path, model: Path) -> None:
        shutil.copyfile(model / "config.json", folder / "config.json")
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"")

    lay.__name__ = names[0]
    return lay


def gguf(folder: Path, model: Path) -> None:
    (folder / "model-q4.gguf").write_bytes(b"GGUF")


def pointer(folder: Path, model: Path) -> None:
    shutil.copyfile(model / "config.json", folder / "config.json")
    (folder / "model.safetensors").write_bytes(LFS)


def pointed_shard(folder: Path, model: Path) -> None:
    shutil.copyfile(model / "config.json", folder / "config.json")
    weight_map = {"weight_map": {"model.norm.weight": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(weight_map))
    (folder / "model-00001-of-00001.safetensors").write_bytes(LFS)


def run(folder: Path, model: Path) -> None:
    for step in (20, 100, 5, 60):
        shutil.copytree(model, folder / f"checkpoint-{step}")


def parent(folder: Path, model: Path) -> None:
    shutil.copytree(model, folder / "model")


def grandparent(folder: Path, model: Path) -> None:
    for name in "abcde":
        shutil.copytree(model, folder / "all" / name)


def tensorflow(folder: Path, model: Path) -> None:
    shutil.copyfile(model / "config.json", folder / "config.json")
    (folder / "tf_model.h5").write_bytes(b"")


def accelerate(folder: Path, model: Path) -> None:
    (folder / "random_states_0.pkl").write_bytes(b"")


def titan(folder: Path, model: Path) -> None:
    weights = {"tok_embeddings.weight": torch.ones(2), "layers.0.attention.wq.weight": torch.ones(2)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that there is no process group
        torch.distributed.checkpoint.save(weights, checkpoint_id=folder)


def empty(folder: Path, model: Path) -> None:
    """Nothing in it."""


LIES: list[tuple[Callable[[Path, Path], None], tuple[str, ...]]] = [
    (adapter, ("holds an adapter", "merge_and_unload()")),
    (adapter_with_config, ("holds an adapter", "merge_and_unload()")),
    (adapter_of_a_base, ("an adapter (PEFT, LORA adapter of 'org/base')", "merge_and_unload()")),
    (prompt, ("PROMPT_TUNING adapter)", "cannot be merged into weights: widen the base model")),
    (adapter_beside_weights, ("beside a model's weights", "another function", "merge_and_unload()", "or move")),
    (beside("model.fp16.safetensors"), ("weights of variant 'fp16' ('model.fp16.safetensors')", "variant='fp16'")),
    (beside("model-00001-of-00002.bf16.safetensors"), ("variant 'bf16'", "save_pretrained")),
    (beside("pytorch_model.fp16.bin"), ("variant 'fp16' ('pytorch_model.fp16.bin')",)),
    (beside("model-00001-of-00002.safetensors"), ("without the index", "'model.safetensors.index.json'")),
    (beside("pytorch_model-00001-of-00002.bin"), ("without the index", "'pytorch_model.bin.index.json'")),
    (beside("consolidated.safetensors", "params.json"), ("Mistral's own format", "convert_*_weights_to_hf.py")),
    (beside("consolidated.00.pth"), ("Meta's or Mistral's own format ('consolidated.00.pth')",)),
    (beside("zero_to_fp32.py", "global_step5/mp_rank_00_model_states.pt"), ("of DeepSpeed", "zero_to_fp32.py")),
    (beside("zero_pp_rank_0_mp_rank_00_optim_states.pt"), ("shards of DeepSpeed", "--safe_serialization")),
    (beside("iter_0000010/mp_rank_00/model_optim_rng.pt"), ("a checkpoint of Megatron ('iter_0000010')", "Bridge")),
    (
        beside("common.pt", ".metadata", "__0_0.distcp"),
        ("a checkpoint of Megatron ('common.pt')", "import the result"),
    ),
    (beside("pytorch_model_fsdp_0_rank1.bin"), ("a file for each rank (use_dcp=False", "SHARDED_STATE_DICT")),
    (titan, ("a checkpoint of torchtitan", "convert_to_hf.py", "last_save_in_hf")),
    (beside(".metadata", "__0_0.distcp"), ("that accelerate did not lay out", "accelerator.save_state")),
    (beside("flax_model.msgpack"), ("Flax format", "transformers 4 (from_flax=True)")),
    (beside("onnx/model.onnx"), ("exported to ONNX ('onnx/model.onnx')", "it was exported from")),
    (beside("openvino_model.xml"), ("exported to OpenVINO",)),
    (beside("llama.safetensors", "ema.pt"), ("has no weights: none of", "but 'ema.pt', 'llama.safetensors'")),
    (gguf, ("holds GGUF weights ('model-q4.gguf')", "gguf_file=")),
    (pointer, ("model.safetensors is not the file but git-lfs's pointer", "`git lfs pull`")),
    (pointed_shard, ("model-00001-of-00001.safetensors is not the file", "`git lfs pull`")),
    (run, ("the folder of a training run", "checkpoint-100, ", "checkpoint-20 (and 1 more)")),
    (parent, ("models are below it. Name one of them: ", "/there/model.")),
    (grandparent, ("/there/all/a, ", "/there/all/c (and 2 more).")),
    (tensorflow, ("TensorFlow format ('tf_model.h5')", "save_pretrained")),
    (accelerate, ("a state that accelerate saved", "accelerator.load_state()")),
    (empty, ("has no config.json. Name the folder",)),
]


def check_recognised(lay: Callable[[Path, Path], None], says: tuple[str, ...], model: Path, home: Path) -> None:
    (home / "there").mkdir(parents=True)
    lay(home / "there", model)
    refused(
        home / "there",
        home / "wide",
        CheckpointError,
        *says,
        step=r"[.:;] (Name|Load|Fetch|Convert|Save|widen|If that is)",
    )


@pytest.mark.parametrize(("lay", "says"), LIES, ids=[lay.__name__ for lay, _ in LIES])
def test_a_folder_is_recognised(lay: Any, says: tuple[str, ...], sources: Sources, tmp_path: Path) -> None:
    check_recognised(lay, says, sources["llama"], tmp_path)


def test_a_folder_not_recognised_is_seen(sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "known_folder", lambda folder: "")
    with pytest.raises(AssertionError):
        check_recognised(adapter, LIES[0][1], sources["llama"], tmp_path)


def test_a_file_is_recognised(sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "small.gguf").write_bytes(b"GGUF")
    refused(tmp_path / "small.gguf", tmp_path / "wide", CheckpointError, "is a GGUF file", "gguf_file=")
    refused(tmp_path / "./gon", tmp_path / "wide", CheckpointError, "no such folder")
    (tmp_path / "gone-with").mkdir()
    refused(tmp_path / "gone-wth", tmp_path / "wide", CheckpointError, f"did you mean {tmp_path / 'gone-with'}?")


ANSWER: Any = SimpleNamespace(headers={}, request=None)


HUB: list[tuple[Exception, str]] = [
    (GatedRepoError("gated", response=ANSWER), "is gated: its owners give access on request"),
    (RepositoryNotFoundError("none", response=ANSWER), "the hub knows no such model or keeps it private"),
    (RevisionNotFoundError("No such revision. Sorry.", response=ANSWER), "the hub answered: No such revision."),
    (LocalEntryNotFoundError("offline"), "nor in the hub's cache, and the hub could not be asked"),
    (ConnectionError("down"), "nor in the hub's cache, and the hub could not be asked"),
    (HFValidationError("a b"), "neither a folder here nor a hub id"),
    (OSError(28, "No space left on device"), "could not be downloaded: [Errno 28] No space left on device."),
]


@pytest.mark.parametrize(("error", "says"), HUB, ids=[type(error).__name__ for error, _ in HUB])
def test_what_the_hub_answers(error: Exception, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(reader, "snapshot_download", fail)
    with pytest.raises(CheckpointError) as caught:
        growth.plan_widening("org/model")
    check_message(str(caught.value), (says, "'org/model'"), step=r"\. (Ask|Check|Name)")
    assert str(hub_error("org/model", error)) == str(caught.value)


def test_answers_differ() -> None:
    assert len({str(hub_error("org/model", error)) for error, _ in HUB}) == len(HUB) - 1  # two ways to be offline


def test_dtypes_by_their_other_names() -> None:
    names = ("fp64", "double", "fp32", "float", "fp16", "half", "bf16")
    assert [str(float_dtype(name)) for name in names] == [
        *("torch.float64", "torch.float64", "torch.float32", "torch.float32"),
        *("torch.float16", "torch.float16", "torch.bfloat16"),
    ]
    assert all(float_dtype(dtype) is dtype for dtype in FLOATS)


def test_sizes_of_another_family_say_so_where_they_are_refused(sources: Sources) -> None:
    other = BertConfig(hidden_size=25, num_attention_heads=5)
    with pytest.raises(IllegalGrowthError, match="The other model is a bert, this one a llama"):
        growth.plan_widening(sources["llama"], like=other)
