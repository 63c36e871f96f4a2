"""After a sharded growth that failed, or around a run that did, the small model is as it was and goes on; and
what differs on one rank alone is heard of by all."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor
from torch.optim import AdamW, Optimizer

import growth
from growth.errors import UnsupportedModelError
from growth.hf.dtensors import local, whole
from support import shardings
from support.optimizers import no_twin
from support.own_models import GPT, GPTConfig
from support.ranks import llama, needs_fork, on_ranks, steps

__all__ = ["no_twin"]  # a fixture for every test here
pytestmark = [needs_fork, pytest.mark.filterwarnings("ignore::UserWarning:torch", "ignore::FutureWarning")]

FSDP = shardings.fsdp()


def _trained() -> tuple[Any, Optimizer]:
    """A sharded model after a step."""
    FSDP(model := llama())
    optimizer = AdamW(model.parameters(), lr=1e-3)
    steps(model, optimizer, range(1))
    return model, optimizer


def _fails(*arguments: Any) -> None:
    raise ValueError("a hook of the caller's")


def _goes_on_after_a_refusal() -> None:
    for failing in ("batch", "hook"):
        (model, optimizer), (control, other) = _trained(), _trained()
        with pytest.raises(UnsupportedModelError, match="could not be run on"):
            if failing == "batch":
                growth.widen(model, width=2, shard=FSDP, verify_inputs={"input_ids": torch.tensor([[1, 999]])})
            else:
                handle = model.model.layers[1].mlp.register_forward_pre_hook(_fails)
                try:
                    growth.widen(model, width=2, shard=FSDP)
                finally:
                    handle.remove()
        assert steps(model, optimizer, range(1, 3)) == steps(control, other, range(1, 3))
        assert growth.widen(model, width=2, shard=FSDP, optimizer=optimizer).proof.run


class Masked(GPT):
    """Its forward requires a mask."""

    def forward(self, idx: Tensor, attention_mask: Tensor) -> Tensor:
        return self.lm_head(self.transformer.ln_f(self._blocks(idx) * attention_mask[..., None]))  # type: ignore[no-any-return]

    def _blocks(self, idx: Tensor) -> Tensor:
        x = self.transformer.wte(idx) + self.transformer.wpe(torch.arange(idx.shape[1]))
        for block in self.transformer.h:
            x = block(x)
        return x


def _by_blocks(model: Any) -> None:
    mesh = init_device_mesh("cpu", (2,))
    for block in model.transformer.h:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def _a_run_that_is_passed_over() -> None:
    torch.manual_seed(0)
    _by_blocks(model := Masked(GPTConfig()))
    batch = {"idx": torch.arange(6)[None], "attention_mask": torch.ones(1, 6)}
    before = model(**batch).detach()
    grown = growth.widen(model, width=2, shard=_by_blocks, inputs=batch)
    assert torch.allclose(grown.model(**batch), before, rtol=0, atol=1e-5)
    assert torch.equal(model(**batch), before)


def _a_run_of_the_callers_that_failed() -> None:
    (model, optimizer), (control, other) = _trained(), _trained()
    handle = model.model.norm.register_forward_pre_hook(_fails)
    with pytest.raises(ValueError, match="a hook"):
        steps(model, optimizer, range(1))
    handle.remove()
    run = growth.widen(model, width=2, shard=FSDP, optimizer=optimizer).proof.run
    assert run is not None and run.own == 0
    assert steps(model, optimizer, range(1, 3)) == steps(control, other, range(1, 3))


@pytest.mark.parametrize(
    "what", [_goes_on_after_a_refusal, _a_run_that_is_passed_over, _a_run_of_the_callers_that_failed]
)
def test_the_small_model_goes_on(what: Callable[[], None], tmp_path: Path) -> None:
    on_ranks(tmp_path, what, limit=60)


def _shard_that_does_more() -> None:
    """It gives room, draws random numbers, and adds a buffer; the caller's generators stay as they are, and
    tables that a constructor worked out are put back, spread over ranks or not."""

    def shard(model: Any) -> None:
        seen.append({name: value.requires_grad for name, value in model.named_parameters()})
        model.model.register_buffer("scale", torch.ones(1), persistent=False)
        rotary = model.model.rotary_emb
        if (table := rotary._buffers.get("original_inv_freq")) is not None:  # that no forward pass reads
            rotary.original_inv_freq = distribute_tensor(table, init_device_mesh("cpu", (2,)), [Shard(0)])
        FSDP(model)
        model.to_empty(device="cpu")
        for value in model.parameters():
            nn.init.normal_(value)
        for value in model.buffers():
            nn.init.zeros_(local(value))
        random.random()

    seen: list[dict[str, bool]] = []
    (model := llama()).model.norm.weight.requires_grad_(False)
    flags = {name: value.requires_grad for name, value in model.named_parameters()}
    FSDP(model)
    before = torch.get_rng_state(), random.getstate()
    grown = growth.widen(model, width=2, shard=shard)
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == random.getstate()
    tables = dict(model.named_buffers())
    found = {name: whole(value) for name, value in grown.model.named_buffers() if name in tables}
    assert found.keys() == tables.keys() and all(torch.equal(found[name], tables[name]) for name in tables)
    assert seen == [flags, flags]


def test_a_function_that_does_more_than_shard(tmp_path: Path) -> None:
    on_ranks(tmp_path, _shard_that_does_more, limit=60)


def _what_is_not_kept() -> None:
    for first, then in ((shardings.tensor_parallel, FSDP), (FSDP, shardings.tensor_parallel)):
        first(model := llama(tied=False))
        model.model.norm.register_forward_hook(lambda *_: None)
        run = growth.widen(model, width=2, shard=then).proof.run
        assert run is not None and run.unseen == ("model.norm has a forward hook",)


def test_torchs_own_hooks_are_not_listed(tmp_path: Path) -> None:
    on_ranks(tmp_path, _what_is_not_kept, limit=60)
