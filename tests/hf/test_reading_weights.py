"""Weight files: one larger than memory is planned from its header, and tensors are read as their
libraries read them."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

import growth
from growth import CheckpointError
from growth.hf.expected_tensors import expected_tensors
from growth.hf.reader import open_checkpoint
from support.refusals import check_message
from support.small_models import llama


def sparse(folder: Path, config: LlamaConfig) -> int:
    """A checkpoint in bfloat16 whose weights are a hole in the disk; its size in bytes."""
    raw = {**config.to_dict(), "architectures": ["LlamaForCausalLM"]}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(raw))
    header, end = {}, 0
    for name, shape in expected_tensors(raw, LlamaForCausalLM)[0].items():
        start, end = end, end + 2 * int(torch.Size(shape).numel())
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    written = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(written).to_bytes(8, "little") + written)
        file.truncate(8 + len(written) + end)
    return end


def test_a_file_larger_than_memory_is_planned(tmp_path: Path) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    layer = 2 * 16384 * (4 * 16384 + 3 * 65536)
    config = LlamaConfig(
        hidden_size=16384,
        intermediate_size=65536,
        num_attention_heads=128,
        vocab_size=100,
        num_hidden_layers=2 * memory // layer + 1,
    )
    if sparse(tmp_path / "small", config) < 2 * memory:
        pytest.fail("the file is to be larger than memory")
    plan = growth.plan_widening(tmp_path / "small", width=2)
    assert plan.bytes(new=False) > 2 * memory


def test_tensors_are_read_as_the_library_reads_them(tmp_path: Path) -> None:
    held = {
        "a": torch.randn(5, 3),
        "b": torch.randn(7).to(torch.bfloat16),
        "c": torch.randn(2, 2, 2).half(),
        "d": torch.randn(3, dtype=torch.float64),
        "e": torch.tensor([True, False]),
        "f": torch.arange(4),
        "g": torch.zeros(0, 4),
        "h": torch.tensor(2.5),
        "i": torch.arange(3, dtype=torch.uint8),
    }
    save_file(held, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text("{}")
    opened, library = open_checkpoint(tmp_path), load_file(tmp_path / "model.safetensors")
    assert opened.shapes == {name: tuple(tensor.shape) for name, tensor in library.items()}
    for name, tensor in library.items():
        read = opened.read(name)
        assert read.dtype == tensor.dtype == opened.dtypes[name] and torch.equal(read, tensor)


def test_a_pickle_of_parameters_is_read_as_one_of_tensors(tmp_path: Path) -> None:
    small = llama()
    small.config.save_pretrained(tmp_path / "small")
    config = {**json.loads((tmp_path / "small" / "config.json").read_text()), "architectures": ["LlamaForCausalLM"]}
    (tmp_path / "small" / "config.json").write_text(json.dumps(config))
    torch.save(dict(small.named_parameters()), tmp_path / "small" / "pytorch_model.bin")
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide")
    small.save_pretrained(tmp_path / "same")
    growth.widen_checkpoint(tmp_path / "same", tmp_path / "wide2")
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("wide", "wide2"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@contextmanager
def little_memory(more: int) -> Iterator[None]:
    """At most ``more`` bytes of writable memory beyond what the process has: what a file must fit into
    to be mapped privately."""
    held = int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0]) * 1024
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (held + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def test_a_file_larger_than_memory_is_read_tensor_by_tensor(tmp_path: Path) -> None:
    config = LlamaConfig(
        hidden_size=512, intermediate_size=2048, num_attention_heads=8, num_hidden_layers=48, vocab_size=50
    )
    size = sparse(tmp_path / "small", config)
    opened = open_checkpoint(tmp_path / "small")
    with little_memory(size // 4):
        assert sum(opened.read(name).nbytes for name in opened.shapes) == size
        assert open_checkpoint(tmp_path / "small").shapes == opened.shapes
    (tmp_path / "small" / "model.safetensors").unlink()
    state = {name: torch.zeros(shape, dtype=torch.bfloat16) for name, shape in opened.shapes.items()}
    torch.save(state, tmp_path / "small" / "pytorch_model.bin")
    del state
    with little_memory(size // 4), pytest.raises(CheckpointError) as caught:
        open_checkpoint(tmp_path / "small")
    check_message(str(caught.value), ("larger than the memory that a process may map here (0.4 GB)",))
