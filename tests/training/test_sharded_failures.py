"""After a sharded growth that failed, or around a run that did, the small model is as it was and goes on; and
what differs on one rank alone is heard of by all."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor
from torch.optim import AdamW, Optimizer

import growth
from growth.errors import GrowthError, UnsupportedModelError
from growth.hf.dtensors import is_sharded, local, whole
from growth.proof import run as proof_run
from growth.training import ranks
from support import shardings
from support.optimizers import no_twin
from support.own_models import GPT, GPTConfig
from support.ranks import llama, needs_fork, on_ranks, steps

__all__ = ["no_twin"]  # a fixture for every test here
pytestmark = [
    needs_fork,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:torch", "ignore::FutureWarning"),
]

FSDP = shardings.fsdp()


def _trained() -> tuple[Any, Optimizer]:
    """A sharded model after a step."""
    FSDP(model := llama())
    optimizer = AdamW(model.parameters(), lr=1e-3)
    steps(model, optimizer, range(1))
    return model, optimizer


def _fails(*arguments: Any) -> None:
    raise ValueError("a hook of the caller's")


def _off_by_little(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
    return output * (1 + 2e-7)


def _goes_on_after_a_refusal() -> None:
    for failing in ("batch", "hook"):
        (model, optimizer), (control, other) = _trained(), _trained()
        with pytest.raises(UnsupportedModelError, match="could not be run on"):
            if failing == "batch":
                growth.widen(model, width=2, shard=FSDP, verify_inputs={"input_ids": torch.tensor([[1, 999]])})
            else:
                handle = model.model.layers[0].mlp.register_forward_pre_hook(_fails)
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


def _wrong_on_one_rank() -> None:
    """Every rank is told, whatever it is; nothing waits."""
    model, optimizer = _trained()
    second, batch = distributed.get_rank() == 1, torch.arange(6)[None]
    wrong: dict[str, dict[str, Any]] = {
        "moments must be": {"moments": "bad"},
        "allow_nonfinite must be": {"allow_nonfinite": 1},
        "verify_inputs must be": {"verify_inputs": 3},
        "shard must be a function": {"shard": "fsdp"},
        "str is not a model": {"model": "model"},
        "width ": {"width": -1},
        r"the ranks do not do the same: .*optimizer": {"optimizer": None},
        r"the ranks do not do the same: .*'lr': 0.1": {"optimizer": AdamW(model.parameters(), lr=0.1)},
        r"the ranks do not do the same: .*verify_inputs=input_ids \[1, 6\]": {"verify_inputs": {"input_ids": batch}},
    }
    for says, given in wrong.items():
        with pytest.raises(GrowthError, match=says) as caught:
            asked = {"model": model, "width": 2, "shard": FSDP, "optimizer": optimizer}
            growth.widen(**{**asked, **(given if second else {})})
        assert second or str(caught.value).startswith(("rank 1 stopped, and so did all", "the ranks do not"))
    assert growth.widen(model, width=2, shard=FSDP, optimizer=optimizer).proof.run


def _found_on_one_rank() -> None:
    """What one rank alone finds decides for all how many runs are made."""
    second = distributed.get_rank() == 1

    def unmasked_fails(module: nn.Module, arguments: Any, keywords: dict[str, Any], output: Any) -> None:
        if "attention_mask" not in keywords:
            raise ValueError("no mask")

    model, _ = _trained()
    if second:
        model.register_forward_hook(unmasked_fails, with_kwargs=True)
    run = growth.widen(model, width=2, shard=FSDP).proof.run
    assert run is not None and run.own == 0
    for model in (_trained()[0], llama()):
        if second:
            model.lm_head.register_forward_hook(_off_by_little)
        if is_sharded(model):
            run = growth.widen(model, width=2, shard=FSDP).proof.run
            assert run is not None and (run.own > 0) == second
        else:  # its modules can be run one by one, so the hook is named
            with pytest.raises(UnsupportedModelError, match="first module to differ is 'lm_head'"):
                growth.widen(model, width=2, shard=FSDP)
    model, _ = _trained()
    with patch.object(proof_run, "excess", (lambda gap, floor: 2.0) if second else proof_run.excess):
        assert growth.widen(model, width=2, shard=FSDP).proof.run
    model, _ = _trained()
    if second:
        model.register_forward_hook(_fails)
    with pytest.raises(UnsupportedModelError, match=r"could not be run on .* \(ValueError: a hook of the caller's"):
        growth.widen(model, width=2, shard=FSDP)


@pytest.mark.parametrize("what", [_wrong_on_one_rank, _found_on_one_rank])
def test_one_rank_alone(what: Callable[[], None], tmp_path: Path) -> None:
    on_ranks(tmp_path, what, limit=60)


def _cut_short_on_one_rank(folder: Path) -> None:
    model, _ = _trained()
    if distributed.get_rank() == 1:
        model.model.layers[0].mlp.register_forward_pre_hook(_fails)
    with patch.object(ranks, "PATIENCE", timedelta(seconds=2)):
        try:
            growth.widen(model, width=2, shard=FSDP)
        except Exception as error:
            (folder / f"said by {distributed.get_rank()}").write_text(f"{type(error).__name__}: {error}")
            raise


def test_a_forward_pass_that_one_rank_alone_leaves(tmp_path: Path) -> None:
    """The others wait inside it, as in training, until that rank's process ends; it says why."""
    with pytest.raises(multiprocessing.ProcessRaisedException):
        on_ranks(tmp_path, _cut_short_on_one_rank, tmp_path, limit=30)
    said = (tmp_path / "said by 1").read_text()
    assert (
        said.startswith("GrowthError: the other ranks do not answer") and "ValueError: a hook of the caller's" in said
    )
