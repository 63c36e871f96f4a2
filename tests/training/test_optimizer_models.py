"""Optimizers of models in low precision, under autocast, with experts, and of registered
modules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Adafactor, AdamW, Optimizer

import growth
from growth.errors import UnsupportedModelError
from growth.hf.tensor_names import to_disk
from growth.proof.float64 import exact_arithmetic
from growth.proof.miniature import build_exact, loud
from support.custom_models import Odd, OddConfig
from support.family_cases import small_config
from support.optimizers import READS, by_name, llama, no_twin, registered, step

__all__ = ["no_twin", "registered"]  # fixtures, the first for every test here


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_low_precision(dtype: torch.dtype) -> None:
    """The state has the dtype of its parameter; powers of two lose nothing there."""
    model = llama(dtype=dtype)
    optimizer = AdamW(model.parameters(), eps=1e-4)
    step(model, optimizer)
    grown = growth.widen(model, width=2, optimizer=optimizer)
    assert grown.optimizer is not None
    before, after = by_name(model, optimizer)[READS], by_name(grown.model, grown.optimizer)[READS]
    assert after["exp_avg"].dtype == dtype and after["step"].dtype == torch.float32
    assert torch.equal(after["exp_avg"].float(), (before["exp_avg"].repeat(2, 2) / 2).float())
    step(grown.model, grown.optimizer)
    assert all(bool(value.isfinite().all()) for value in grown.model.parameters())


def test_autocast_a_scaler_and_gradient_checkpointing() -> None:
    model = llama()
    model.activation_checkpointing_enable()  # type: ignore[attr-defined]
    model.train()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    step(model, optimizer)
    grown = growth.widen(model, width=2, optimizer=optimizer, noise=0.1)
    wide, new = grown.model, grown.optimizer
    assert new is not None and wide.training and wide.model.layers[1].gradient_checkpointing
    scaler = torch.amp.GradScaler("cpu")
    ids = torch.randint(0, 32, (2, 9), generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(3):
        new.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = wide(input_ids=ids, labels=ids).loss
        scaler.scale(loss).backward()
        scaler.step(new)
        scaler.update()
        losses.append(loss.item())
    assert losses[2] < losses[0]


@pytest.mark.parametrize("model_type", ["mixtral", "gpt_oss"])
def test_experts_that_are_one_in_memory_and_many_on_disk(model_type: str) -> None:
    name = {"mixtral": "MixtralForCausalLM", "gpt_oss": "GptOssForCausalLM"}[model_type]
    with exact_arithmetic():
        model = build_exact(small_config(model_type, name, {}))
        loud(model, 1)
        optimizer = AdamW(model.parameters(), lr=1e-4)
        step(model, optimizer, 2)
        grown = growth.widen(model, width=3, optimizer=optimizer)
        assert grown.optimizer is not None and grown.uneven == ()
        before, after = (
            to_disk(each, {key: value["exp_avg"] for key, value in by_name(each, made).items()})
            for each, made in ((model, optimizer), (grown.model, grown.optimizer))
        )
        assert before.keys() == after.keys() == grown.plan.tensors.keys()
        for key, old in before.items():
            want = old
            for axis, d in enumerate(grown.plan.tensors[key].dimensions):
                shape = [-1 if i == axis else 1 for i in range(old.ndim)]
                want = want.index_select(axis, torch.from_numpy(d.source)) * torch.from_numpy(d.gradient).reshape(
                    shape
                )
            assert torch.allclose(after[key], want, rtol=1e-12, atol=0), key
        if model_type == "mixtral":
            factored = Adafactor(model.parameters())
            step(model, factored)
            with pytest.raises(
                UnsupportedModelError, match=r"experts.* on disk, and Adafactor stores means over rows and columns"
            ):
                growth.widen(model, optimizer=factored)
            assert growth.widen(model, optimizer=factored, moments="reset").optimizer is not None


@pytest.mark.usefixtures("registered")
def test_a_registered_module() -> None:
    with exact_arithmetic():
        torch.manual_seed(0)
        model = Odd(OddConfig()).double()
        loud(model)  # type: ignore[arg-type]
        optimizer = AdamW(model.named_parameters(), lr=1e-3, weight_decay=0.1, eps=1e-4)

        def train(each: Any, made: Optimizer, steps: int) -> list[float]:
            losses = []
            for number in range(steps):
                ids = torch.randint(0, 37, (2, 9), generator=torch.Generator().manual_seed(number % 3))
                made.zero_grad()
                loss = nn.functional.cross_entropy(each(ids).logits.flatten(0, 1), ids.flatten())
                loss.backward()
                made.step()
                losses.append(loss.item())
            return losses

        train(model, optimizer, 5)
        grown = growth.widen(model, width=3, symmetry="none", optimizer=optimizer)
        assert isinstance(grown.model, Odd) and grown.optimizer is not None and not grown.uneven
        assert "blocks.0.qkv.weight" in [
            name for group in grown.optimizer.param_groups for name in group["param_names"]
        ]
        assert train(grown.model, grown.optimizer, 10) == pytest.approx(train(model, optimizer, 10), rel=1e-9)
