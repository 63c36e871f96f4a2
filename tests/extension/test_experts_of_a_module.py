"""Experts of a registered module, which are a list of modules in memory too."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW

import growth
from growth.architectures import (
    FFN_LAWS,
    FINAL,
    NORMED,
    RESIDUAL,
    Architecture,
    Linear,
    RMSNorm,
    Size,
    embedding,
    experts,
    linear,
    norm,
    registry,
)
from growth.architectures.families.mixtral import FFN
from growth.proof.float64 import exact_arithmetic
from growth.proof.miniature import loud
from growth.training import new_coordinates


@dataclasses.dataclass
class MoeConfig:
    n_vocab: int = 41
    n_embd: int = 20
    n_inner: int = 24
    n_layer: int = 2
    num_experts: int = 3
    num_experts_per_tok: int = 2


class Moe(nn.Module):
    """Blocks of experts alone."""

    def __init__(self, config: MoeConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.n_vocab, config.n_embd)
        self.blocks = nn.ModuleList(MoeBlock(config) for _ in range(config.n_layer))
        self.last, self.head = nn.RMSNorm(config.n_embd, 1e-6), nn.Linear(config.n_embd, config.n_vocab, bias=False)

    def forward(self, ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        x = self.tokens(ids)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.last(x))
        return logits


class MoeBlock(nn.Module):
    def __init__(self, config: MoeConfig) -> None:
        super().__init__()
        self.chosen = config.num_experts_per_tok
        self.before = nn.RMSNorm(config.n_embd, 1e-6)
        self.router = nn.Linear(config.n_embd, config.num_experts)
        self.experts = nn.ModuleList(
            nn.ModuleDict(
                {"up": nn.Linear(config.n_embd, config.n_inner), "down": nn.Linear(config.n_inner, config.n_embd)}
            )
            for _ in range(config.num_experts)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.before(x)
        best, which = self.router(y).topk(self.chosen)
        weights = torch.zeros_like(self.router(y)).scatter(-1, which, best.softmax(-1))
        added = [expert["down"](F.gelu(expert["up"](y))) for expert in self.experts]
        return x + (torch.stack(added, -1) * weights[..., None, :]).sum(-1)


MOE = Architecture(
    model_type="moe_of_tests",
    module_class=Moe,
    config_class=MoeConfig,
    modules={
        "tokens": embedding(RESIDUAL),
        "blocks.*.before": norm(RESIDUAL, NORMED),
        "blocks.*.router": linear(NORMED),
        **experts("blocks.*.experts", ("up",), "down", reads=NORMED, writes=RESIDUAL, hidden=FFN),
        "last": norm(RESIDUAL, FINAL),
        "head": linear(FINAL),
    },
    laws={RESIDUAL: RMSNorm(), NORMED: Linear(), FINAL: Linear(), **FFN_LAWS},
    epsilon=1e-6,
    sizes={"hidden_size": Size("n_embd", small=18), "intermediate_size": Size("n_inner", small=24)},
    vouched=dict.fromkeys(("n_vocab", "num_experts", "num_experts_per_tok")),
    twin=lambda config, layers: {"n_vocab": 41, "n_layer": layers},
)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    before = dict(registry._REGISTRY)
    growth.register(MOE)
    yield
    registry._REGISTRY.clear()
    registry._REGISTRY.update(before)


def step(model: Any, optimizer: torch.optim.Optimizer) -> float:
    ids = torch.randint(0, 41, (2, 9), generator=torch.Generator().manual_seed(0))
    optimizer.zero_grad()
    loss = F.cross_entropy(model(ids).flatten(0, 1), ids.flatten())
    loss.backward()
    optimizer.step()
    return loss.item()


@pytest.mark.parametrize(
    "choices", [{"experts": 6}, {"experts": 9, "noise": 1, "layers": 3}, {"experts": 6, "expert_size": 12, "width": 2}]
)
def test_experts_of_a_module(choices: dict[str, Any]) -> None:
    with exact_arithmetic():
        torch.manual_seed(0)
        model = Moe(MoeConfig()).double()
        loud(model)  # type: ignore[arg-type]
        model.blocks[0].experts[1].eval()
        optimizer = AdamW(model.parameters(), lr=1e-4)
        step(model, optimizer)
        grown = growth.widen(model, optimizer=optimizer, **choices)
        assert len(grown.model.blocks[0].experts) == grown.model.config.num_experts == choices["experts"]
        assert [one.training for one in grown.model.blocks[0].experts] == [True, False, True] * (
            choices["experts"] // 3
        )
        assert grown.optimizer is not None
        assert grown.plan.extension is not None
        for name, value in grown.model.named_parameters():
            assert bool(grown.optimizer.state[value]) is not grown.plan.extension.adds(f"module.{name}")
        assert abs(step(model, optimizer) - step(grown.model, grown.optimizer)) < 1e-10


def test_what_is_new() -> None:
    model = Moe(MoeConfig())
    masks = new_coordinates(growth.widen(model, experts=6))
    assert {name: bool(mask.any()) for name, mask in masks.items() if ".experts." in name and mask.ndim == 2} == {
        f"blocks.{block}.experts.{expert}.{part}.weight": expert >= 3
        for block in range(2)
        for expert in range(6)
        for part in ("up", "down")
    }
    assert masks["blocks.0.router.bias"].tolist() == [False] * 3 + [True] * 3
    finer = new_coordinates(growth.widen(model, experts=12, expert_size=12))
    assert [bool(finer[f"blocks.0.experts.{expert}.up.bias"].all()) for expert in range(12)] == [False] * 6 + [
        True
    ] * 6
