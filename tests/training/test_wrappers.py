"""What training wraps around a model, an optimizer or a scheduler: taken off, or refused with a
remedy; and the remedy works."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from torch import distributed, multiprocessing, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

import growth
from growth.errors import CheckpointError, UnsupportedModelError
from growth.training import train_new_only
from support.optimizers import llama, no_twin, step

__all__ = ["no_twin"]  # a fixture for every test here
IDS = torch.arange(9)[None]


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of one."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def trained() -> tuple[Any, AdamW, LambdaLR]:
    model = llama()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    step(model, optimizer, 2)
    return model, optimizer, LambdaLR(optimizer, lambda number: 0.9**number)


def same(model: Any, grown: Any) -> None:
    with torch.no_grad():
        assert torch.allclose(grown(IDS).logits, model(IDS).logits, atol=1e-5)


def refused(model: nn.Module, says: str) -> None:
    with pytest.raises(UnsupportedModelError, match=says):
        growth.widen(model, width=2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_compiled_model_grows_uncompiled() -> None:
    model, optimizer, scheduler = trained()
    compiled = torch.compile(model, backend="eager")
    grown = growth.widen(compiled, width=2, optimizer=optimizer, scheduler=scheduler)
    assert type(grown.model) is type(model) and grown.optimizer is not None and grown.optimizer.state
    same(model, grown.model)
    again = torch.compile(grown.model, backend="eager")
    step(again, grown.optimizer)
    same(again, grown.model)
    model.compile(backend="eager")
    model.model.layers[0].compile(backend="eager")
    inside = growth.widen(model, width=2).model
    assert inside._compiled_call_impl is None
    same(model, inside)
    model.model.layers[1] = torch.compile(model.model.layers[1], backend="eager")
    refused(model, r"'model.layers.1' of this LlamaForCausalLM is compiled separately, .* Use module.compile\(\)")


def test_what_wraps_a_model_is_refused_with_what_to_do() -> None:
    refused(
        nn.Sequential(llama()),
        r"Sequential has no config .*\. If it wraps a model, widen what",
    )
    refused("a/path", r"^str is not a model. Load one first")  # type: ignore[arg-type]
    refused(nn.DataParallel(llama()), r"DataParallel wraps a model in DataParallel. Widen its .module, on every rank")


@pytest.mark.usefixtures("alone")
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_ddp_is_refused_and_what_is_inside_grows() -> None:
    model, optimizer, scheduler = trained()
    wrapped = DistributedDataParallel(model)
    refused(
        wrapped, r"DistributedDataParallel wraps a model in DistributedDataParallel. Widen its .module, on every rank"
    )
    step(wrapped, optimizer)
    grown = growth.widen(wrapped.module, width=2, optimizer=optimizer, scheduler=scheduler)
    same(model, grown.model)
    before = grown.model.lm_head.weight.detach().clone()
    assert grown.optimizer is not None
    step(DistributedDataParallel(grown.model), grown.optimizer)
    assert not torch.equal(before, grown.model.lm_head.weight)


@pytest.mark.usefixtures("alone")
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_shards_are_refused_until_it_is_said_how_to_shard(tmp_path: Path) -> None:
    model = llama()
    fully_shard(model)
    refused(model, r"this FSDPLlamaForCausalLM is sharded .* Say how to shard the wider one, on every rank: growth")
    split = llama(tied=False)
    mesh = init_device_mesh("cpu", (1,))
    split.lm_head.weight = nn.Parameter(distribute_tensor(split.lm_head.weight.detach(), mesh))
    refused(split, r"this LlamaForCausalLM is sharded .* Say how to shard the wider one, on every rank: growth")
    full = {name: value.full_tensor() for name, value in model.state_dict().items() if isinstance(value, DTensor)}
    model.config.architectures = ["LlamaForCausalLM"]
    stock = llama()
    stock.load_state_dict(full)
    stock.save_pretrained(tmp_path / "full")
    growth.widen_checkpoint(tmp_path / "full", tmp_path / "wide", width=2)
    grown = growth.widen(stock, width=2)
    fully_shard(grown.model)
    with pytest.raises(UnsupportedModelError, match=r"this FSDPLlamaForCausalLM is sharded"):
        train_new_only(grown)


ADAPTED: dict[str, Callable[[Any], Any]] = {
    "peft": lambda model: get_peft_model(model, LoraConfig(target_modules=["q_proj"])),
    "injected": lambda model: get_peft_model(model, LoraConfig(target_modules=["q_proj"])).get_base_model(),
    "transformers": lambda model: model.add_adapter(LoraConfig(target_modules=["q_proj"])) or model,
}


@pytest.mark.parametrize("how", ADAPTED)
@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
def test_adapters_are_refused_until_they_are_merged(how: str) -> None:
    model = ADAPTED[how](llama())
    refused(model, rf"this {type(model).__name__} has adapters \(PEFT\). Merge them first")
    if how == "peft":
        nn.init.normal_(model.base_model.model.model.layers[0].self_attn.q_proj.lora_B.default.weight)
        merged = model.merge_and_unload()
        same(merged, growth.widen(merged, width=2).model)


def scaled(model: Any, optimizer: AdamW) -> None:
    """A step under autocast and a GradScaler."""
    scaler, ids = torch.amp.GradScaler("cpu"), torch.arange(9)[None]
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(input_ids=ids, labels=ids).loss
    scaler.scale(loss).backward()
    scaler.step(optimizer)


@pytest.mark.usefixtures("alone")
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    "one",
    [
        lambda model, optimizer: step(DistributedDataParallel(model), optimizer),
        lambda model, optimizer: step(DistributedDataParallel(model, gradient_as_bucket_view=True), optimizer),
        lambda model, optimizer: step(*Accelerator(cpu=True).prepare(model, optimizer)),
        scaled,
    ],
    ids=["DDP", "DDP with views", "accelerate", "scaler"],
)
def test_only_what_is_new_trains_in_wrappers(one: Callable[[Any, AdamW], None]) -> None:
    grown = growth.widen(llama(), width=2, noise=0.5)
    before = {name: parameter.detach().clone() for name, parameter in grown.model.named_parameters()}
    with train_new_only(grown):
        optimizer = AdamW(grown.model.parameters(), lr=1e-2, weight_decay=0.5)
        one(grown.model, optimizer)
    for name, new in grown.new_coordinates().items():
        moved = grown.model.get_parameter(name) != before[name]
        assert not moved[~new].any() and moved[new].any(), name
        assert not optimizer.state[grown.model.get_parameter(name)]["exp_avg"][~new].any(), name


def test_accelerate_by_what_it_wraps() -> None:
    accelerator = Accelerator(cpu=True)
    model, optimizer, scheduler = accelerator.prepare(*trained())
    step(model, optimizer)
    with pytest.raises(
        UnsupportedModelError,
        match=r"AcceleratedOptimizer wraps the AdamW in its .optimizer. Give that one, .* callback, stop and grow",
    ):
        growth.widen(model, width=2, optimizer=optimizer)
    with pytest.raises(
        UnsupportedModelError, match=r"AcceleratedScheduler wraps the LambdaLR in its .scheduler. Give that one"
    ):
        growth.widen(model, width=2, optimizer=optimizer.optimizer, scheduler=scheduler)
    bare = accelerator.unwrap_model(model)
    grown = growth.widen(bare, width=2, optimizer=optimizer.optimizer, scheduler=scheduler.scheduler)
    same(bare, grown.model)
    accelerator.free_memory()
    wide, new, schedule = accelerator.prepare(grown.model, grown.optimizer, grown.scheduler)
    before = [group["lr"] for group in new.param_groups]
    step(wide, new)
    schedule.step()
    assert [group["lr"] for group in new.param_groups] == pytest.approx([0.9 * rate for rate in before])


def test_what_accelerate_saved_grows_in_the_loop(tmp_path: Path) -> None:
    accelerator = Accelerator(cpu=True)
    model, optimizer, scheduler = accelerator.prepare(*trained())
    step(model, optimizer)
    scheduler.step()
    accelerator.save_state(str(tmp_path / "state"))
    for training in (False, True):
        with pytest.raises(
            CheckpointError, match=r"is a state that accelerate saved, .* accelerator.load_state\(\), grow in"
        ):
            growth.widen_checkpoint(tmp_path / "state", tmp_path / "wide", optimizer=training)
    accelerator.free_memory()
    model, optimizer, scheduler = accelerator.prepare(*trained())
    accelerator.load_state(str(tmp_path / "state"))
    bare = accelerator.unwrap_model(model)
    grown = growth.widen(bare, width=2, optimizer=optimizer.optimizer, scheduler=scheduler.scheduler, hyper="keep")
    accelerator.free_memory()
    wide = accelerator.prepare(grown.model, grown.optimizer, grown.scheduler)
    accelerator.save_state(str(tmp_path / "wide"))
    step(wide[0], wide[1])
    reached = [parameter.detach().clone() for parameter in wide[0].parameters()]
    step(wide[0], wide[1], 3)
    accelerator.load_state(str(tmp_path / "wide"))
    step(wide[0], wide[1])
    assert all(torch.equal(one, other) for one, other in zip(reached, wide[0].parameters(), strict=True))


def _rank(rank: int, folder: Path) -> None:
    """Two steps under DDP, growth with noise, two more: each rank on batches of its own."""
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=2)
    model = llama()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    for part in range(2):
        wrapped = DistributedDataParallel(model)
        for number in range(2):
            ids = torch.randint(0, 32, (2, 9), generator=torch.Generator().manual_seed(10 * number + rank))
            optimizer.zero_grad()
            wrapped(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
        if part == 0:
            grown = growth.widen(wrapped.module, width=2, noise=0.2, optimizer=optimizer)
            assert grown.optimizer is not None
            model, optimizer = grown.model, grown.optimizer
    moments = [optimizer.state[parameter]["exp_avg"] for parameter in model.parameters()]
    torch.save([*(parameter.detach() for parameter in model.parameters()), *moments], folder / f"{rank}.pt")
    distributed.barrier()  # neither rank closes its connections while the other still needs them
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_grow_alike(tmp_path: Path) -> None:
    ranks = multiprocessing.spawn(_rank, (tmp_path,), nprocs=2, join=False)  # type: ignore[attr-defined]
    deadline = time.monotonic() + 300
    while not ranks.join(timeout=5):
        if time.monotonic() > deadline:
            for rank in ranks.processes:
                rank.kill()
            pytest.fail("the ranks wait for each other")
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert len(one) == len(other) > 0 and all(torch.equal(left, right) for left, right in zip(one, other, strict=True))


def test_wrappers_of_activation_checkpointing_are_refused() -> None:
    model = llama()
    model.model.layers[1] = checkpoint_wrapper(model.model.layers[1])
    refused(model, r"'model.layers.1' of this LlamaForCausalLM is wrapped for activation checkpointing .* Grow before")
