"""A model that gets more layers on the way: the loss goes on where it was, and the new layers
train."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim import AdamW

from growth.training.stages import staged
from support.optimizers import llama, no_twin

__all__ = ["no_twin"]  # a fixture, for every test here

GROWN_AT = 3


def losses(stages: dict[int, Any]) -> tuple[list[float], Any]:
    """Of 6 steps on one batch after another, and the model at the end."""

    def step(model: Any, optimizer: Any, number: int) -> float:
        ids = torch.randint(0, 32, (2, 9), generator=torch.Generator().manual_seed(number))
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    model: Any = llama(tied=True)
    optimizer = AdamW(model.parameters(), lr=1e-3)
    done = list(staged(model, optimizer, step, stages, 6))
    return [loss for _, _, _, loss in done], done[-1][0]


@pytest.mark.parametrize("choices", [{"layers": 4}, {"layers": 3, "untie": True, "width": 2}])
def test_a_stage_may_add_layers(choices: dict[str, Any]) -> None:
    small, _ = losses({})
    deep, model = losses({GROWN_AT: choices})
    assert deep[:GROWN_AT] == small[:GROWN_AT]
    assert deep[GROWN_AT] == pytest.approx(small[GROWN_AT], rel=1e-6)
    assert max(abs(a - b) for a, b in zip(deep, small, strict=True)) > 1e-4
    assert model.config.num_hidden_layers == choices["layers"]
    assert all(layer.mlp.down_proj.weight.abs().max() > 0 for layer in model.model.layers)
