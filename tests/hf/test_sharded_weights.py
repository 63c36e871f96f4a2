"""Shards and their index: what is read is what ``from_pretrained`` loads, or it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaForCausalLM

import growth
from growth.hf.reader import open_checkpoint
from support.refusals import check_message, snapshot
from support.small_models import llama

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def sharded(folder: Path, shards: dict[str, dict[str, Tensor]], index: dict[str, str], pickled: bool = False) -> None:
    """Write a model's weights anew, as shards with an index."""
    (folder / "model.safetensors").unlink()
    name = "pytorch_model.bin.index.json" if pickled else "model.safetensors.index.json"
    for shard, held in shards.items():
        if pickled:
            torch.save(held, folder / shard)
        else:
            save_file(held, folder / shard, metadata={"format": "pt"})
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": index}))


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "pickle"])
@pytest.mark.parametrize("named", [0, 1])
def test_a_tensor_in_two_shards_is_refused(named: int, pickled: bool, tmp_path: Path) -> None:
    """transformers loads that of the last shard by name, whichever the index names."""
    folder = tmp_path / "small"
    llama().save_pretrained(folder)
    state, norm = load_file(folder / "model.safetensors"), "model.norm.weight"
    names = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"] if pickled else [FIRST, SECOND]
    other = {"lm_head.weight": state["lm_head.weight"] + 1, norm: state.pop(norm)}
    index = {**dict.fromkeys(state, names[0]), norm: names[1], "lm_head.weight": names[named]}
    sharded(folder, {names[0]: state, names[1]: other}, index, pickled)
    loaded = LlamaForCausalLM.from_pretrained(folder).state_dict()
    assert torch.equal(loaded["lm_head.weight"], other["lm_head.weight"])
    before = snapshot(tmp_path)
    with pytest.raises(growth.CheckpointError) as caught:
        growth.widen_checkpoint(folder, tmp_path / "wide")
    said = ("'lm_head.weight' is in", names[0], names[1], f"transformers loads that of {names[1]}")
    check_message(str(caught.value), said)
    assert snapshot(tmp_path) == before


def test_a_tensor_that_the_index_does_not_list_is_read_as_transformers_reads_it(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    second = {"model.norm.weight": state.pop("model.norm.weight") + 1}
    index = {**dict.fromkeys(state, FIRST), **dict.fromkeys(second, SECOND)}
    del index["lm_head.weight"]
    sharded(tmp_path, {FIRST: state, SECOND: second}, index)
    opened, loaded = open_checkpoint(tmp_path), LlamaForCausalLM.from_pretrained(tmp_path).state_dict()
    assert opened.shapes.keys() == loaded.keys()
    assert all(torch.equal(opened.read(name), tensor) for name, tensor in loaded.items())
