"""After a sharded growth that failed, or around a run that did, the small model is as it was and goes on; and
what differs on one rank alone is heard of by all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.optim import AdamW, Optimizer

import growth
from growth.errors import UnsupportedModelError
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
