"""Any number of workers writes the same bytes, and one that fails ends the others."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GptOssConfig, LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

import growth
from growth.checkpoint.safetensors_writer import SafetensorsWriter
from growth.hf.running_hash import RunningHash
from growth.plan.tensor_plan import TensorPlan
from growth.weights import draws, workers
from growth.weights import grow as growing
from growth.weights.workers import GivenUp, Stop, Workers, mapping, side_by_side, workers_for
from support.crashes import Bomb
from support.refusals import snapshot

SIZES = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "vocab_size": 501}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jobs")
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES, **HEADS, tie_word_embeddings=True))
    model.to(torch.bfloat16).save_pretrained(folder / "llama", max_shard_size="60KB")
    MixtralForCausalLM(MixtralConfig(**SIZES, **HEADS, num_local_experts=3)).save_pretrained(folder / "mixtral")
    return folder


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that a matrix has several."""
    monkeypatch.setattr(growing, "BLOCK", 1 << 11)
    monkeypatch.setattr(draws, "CHUNK", 1 << 10)


def widened(source: Path, home: Path, jobs: int | None, **choices: Any) -> dict[str, Any]:
    home.mkdir()
    growth.widen_checkpoint(source, home / "wide", jobs=jobs, **choices)
    return snapshot(home / "wide")


@pytest.mark.parametrize("name", ["llama", "mixtral"])
@pytest.mark.parametrize(
    "choices",
    [
        {"width": 1.5},
        pytest.param({"width": 2}, marks=pytest.mark.slow),
        pytest.param({"width": 2, "symmetry": "split:1/3"}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("limit", [pytest.param("5GB", marks=pytest.mark.slow), "100KB"])
def test_any_number_of_workers_writes_the_same(
    name: str, choices: dict[str, Any], limit: str, source: Path, tmp_path: Path
) -> None:
    found = [widened(source / name, tmp_path / str(jobs), jobs, max_shard_size=limit, **choices) for jobs in (1, 3)]
    assert all(one == found[0] for one in found[1:])
    assert sum(file.endswith(".safetensors") for file in found[0]) > (2 if limit != "5GB" else 0)


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("name", ["llama", "mixtral"])
def test_hashes_are_those_of_the_files(name: str, jobs: int, source: Path, tmp_path: Path) -> None:
    growth.widen_checkpoint(source / name, tmp_path / "wide", jobs=jobs, max_shard_size="100KB")
    record = json.loads((tmp_path / "wide" / "growth.json").read_text())
    for folder, said in ((source / name, record["source"]), (tmp_path / "wide", record["result"])):
        assert said["sha256"] == {
            file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in said["sha256"]
        }
    weights = {path.name for path in (tmp_path / "wide").glob("*.safetensors")}
    assert set(record["result"]["sha256"]) == weights and len(weights) > 1
    assert set(record["source"]["sha256"]) == {path.name for path in (source / name).glob("*.safetensors")} | {
        "config.json"
    }


def test_the_source_is_read_once(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights lie in their files in the order in which they grow, so hashing reads nothing but headers again."""
    again: list[int] = []
    hexdigest = RunningHash.hexdigest

    def counted(self: RunningHash, rest: Callable[[int], Any]) -> str:
        def counting(start: int) -> Any:
            for part in rest(start):
                again.append(len(part))
                yield part

        return hexdigest(self, counting)

    monkeypatch.setattr(RunningHash, "hexdigest", counted)
    growth.widen_checkpoint(source / "llama", tmp_path / "wide", jobs=1)
    config = (source / "llama" / "config.json").stat().st_size
    assert sum(again) <= config + 100


@pytest.mark.slow
def test_a_draw_that_depends_on_the_order_is_found(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = torch.Generator().manual_seed(0)

    def drawn(plan: TensorPlan, seed: int, first: int, rows: int) -> torch.Tensor:
        time.sleep(0.001 * (first % 7))
        height, *rest = plan.new_shape
        return torch.randint(-(1 << 15), 1 << 15, (min(rows, height - first), *rest), generator=shared).to(torch.int16)

    monkeypatch.setattr(draws, "_chunk", drawn)
    choices = {"width": 2, "noise": 1, "max_shard_size": "100KB"}
    one = widened(source / "llama", tmp_path / "1", 1, **choices)
    shared.manual_seed(0)
    assert widened(source / "llama", tmp_path / "2", 4, **choices) != one


@pytest.mark.parametrize("fuse", [0, 5, 40])
@pytest.mark.parametrize("limit", ["5GB", "100KB"])
def test_a_worker_that_fails_ends_all_and_leaves_nothing(
    fuse: int, limit: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(SafetensorsWriter, "append", Bomb(SafetensorsWriter.append, lambda: full, fuse, once=True))
    before = threading.active_count()  # other tests may have left some
    with pytest.raises(growth.CheckpointError, match="No space left on device"):
        growth.widen_checkpoint(source / "llama", tmp_path / "home" / "wide", jobs=3, max_shard_size=limit)
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == before


def test_the_number_of_threads_of_pytorch_is_put_back(source: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        growth.widen_checkpoint(source / "llama", tmp_path / "wide")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("choices", [{"width": 2, "noise": 1}, {"width": 1.5}])
def test_in_memory_any_number_of_threads_grows_the_same(choices: dict[str, Any], source: Path) -> None:
    model = MixtralForCausalLM.from_pretrained(source / "mixtral")
    before, states = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            states.append(growth.widen(model, **choices).model.state_dict())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_workers_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "BLOCK", 1 << 21)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    plan = growth.plan_widening(LlamaConfig(hidden_size=2048, num_attention_heads=16, num_hidden_layers=1))
    each = workers.OVERHEAD + workers.PER_ELEMENT * (1 << 21)

    def memory(of: float) -> None:
        monkeypatch.setattr(workers, "free_memory", lambda: int(of))

    memory(100 * each)
    assert workers_for(None, 100, plan, 0) == Workers(64, 1)
    assert workers_for(None, 100, plan, 0, neighbours=4) == Workers(25, 1)
    assert workers_for(None, 100, plan, 2 * each) == Workers(20, 1)  # each holds a tensor, and a block
    assert workers_for(None, 2, plan, 0) == Workers(2, 32)
    assert workers_for(None, 1, plan, 20 * each) == Workers(1, 60)
    assert workers_for(4, 100, plan, 1000 * each) == Workers(1, 1)
    assert workers_for(4, 3, plan, 0) == Workers(3, 1)
    assert workers_for(None, 0, plan, 0) == Workers(1, 64)
    memory(0)
    assert workers_for(5, 5, plan, 10**9) == Workers(1, 1)


def test_a_row_of_experts_is_a_large_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block is at least one row, which of stacked experts is a whole one."""
    monkeypatch.setattr(growing, "BLOCK", 1 << 21)
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 1, "num_local_experts": 8}
    plan = growth.plan_widening(GptOssConfig(**sizes, num_attention_heads=16, num_key_value_heads=8, head_dim=64))
    row = max(math.prod(tensor.new_shape[1:]) for tensor in plan.tensors.values())
    assert row > 8 << 21
    monkeypatch.setattr(workers, "free_memory", lambda: 10 * (workers.OVERHEAD + workers.PER_ELEMENT * row))
    assert workers_for(64, 1, plan, 0) == Workers(1, 10)


def test_free_memory_is_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 10**7 < workers.free_memory() < 10**15
    monkeypatch.setattr(Path, "read_text", Bomb(Path.read_text, lambda: OSError(2, "none"), 0))
    assert 10**7 < workers.free_memory() < 10**15


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2"])
def test_jobs_is_a_number(value: Any, source: Path, tmp_path: Path) -> None:
    with pytest.raises(growth.GrowthError, match="jobs must be a whole number of at least 1"):
        growth.widen_checkpoint(source / "llama", tmp_path / "wide", jobs=value)


def test_results_wait_in_order_and_not_too_many() -> None:
    running: list[int] = []

    def work(item: int) -> int:
        running.append(item)
        time.sleep(0.002 * (5 - item % 5))
        return item * item

    with mapping(3) as each:
        results = iter(each(work, range(40)))
        assert next(results) == 0
        time.sleep(0.1)
        assert len(running) <= 7
        assert list(results) == [n * n for n in range(1, 40)]
    with mapping(1) as each:
        assert list(each(work, range(5))) == [n * n for n in range(5)]


@pytest.mark.parametrize("threads", [1, 3])
def test_workers_look_whether_to_give_up_before_each_item(threads: int) -> None:
    stop, done = Stop(), []

    def work(item: int) -> None:
        done.append(item)
        if item == 5:
            stop.set()
        time.sleep(0.01)

    with pytest.raises(GivenUp), mapping(threads, stop.check) as each:
        list(each(work, range(1000)))
    assert len(done) < 20


def test_the_first_error_is_raised_and_the_others_give_up() -> None:
    stop, done = Stop(), []

    def work(item: int) -> None:
        if item == 3:
            raise ValueError("the third")
        for _ in range(500):
            stop.check()
            time.sleep(0.001)
        done.append(item)

    with pytest.raises(ValueError, match="the third"):
        side_by_side(work, range(50), 8, stop)
    assert not done
    with pytest.raises(GivenUp):
        stop.check()
