"""Small models under training, and what the tests of growing optimizers share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from transformers import LlamaConfig, LlamaForCausalLM

import growth
from growth.architectures import registry
from growth.proof.twin import TwinReport
from growth.training import model as growth_model
from support.custom_models import ODD

READS = "model.layers.0.mlp.down_proj.weight"


@pytest.fixture(autouse=True)
def no_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its proof has tests of its own, and takes a second each time."""
    monkeypatch.setattr(growth_model, "prove_twin", lambda plan: TwinReport(0.0, 1.0, {}))


def llama(tied: bool = True, dtype: torch.dtype = torch.float32, **changes: Any) -> LlamaForCausalLM:
    sizes = {
        "hidden_size": 24,
        "intermediate_size": 20,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_hidden_layers": 2,
    }
    torch.manual_seed(0)
    config = LlamaConfig(**sizes, vocab_size=32, attention_bias=True, tie_word_embeddings=tied, **changes)  # type: ignore[arg-type]
    return LlamaForCausalLM(config).to(dtype)  # type: ignore[arg-type]


def step(model: Any, optimizer: Optimizer, times: int = 1) -> None:
    for number in range(times):
        ids = torch.randint(0, 32, (2, 9), generator=torch.Generator().manual_seed(number))
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()


def by_name(model: nn.Module, optimizer: Optimizer) -> dict[str, Mapping[str, Any]]:
    return {
        name: optimizer.state[parameter]
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
    }


def group_of(model: nn.Module, optimizer: Optimizer, name: str) -> dict[str, Any]:
    parameter = model.get_parameter(name)
    found = [group for group in optimizer.param_groups if any(other is parameter for other in group["params"])]
    assert len(found) == 1
    return found[0]


@pytest.fixture
def registered() -> Iterator[None]:
    before = dict(registry._REGISTRY)
    growth.register(ODD)
    yield
    registry._REGISTRY.clear()
    registry._REGISTRY.update(before)
