"""Configs inside configs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from support.own_styles.style import Style, floats, tokens

# Configs that are nested.


@dataclass
class AttentionConfig:
    heads: int = 3
    dim_head: int = 8


@dataclass
class MlpConfig:
    hidden: int = 44
    act: str = "gelu"


@dataclass
class NestedConfig:
    vocab: int = 39
    width: int = 20
    depth: int = 2
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    mlp: MlpConfig = field(default_factory=MlpConfig)


class Nested(nn.Module):
    def __init__(self, config: NestedConfig) -> None:
        super().__init__()
        self.config = config
        inner = config.attention.heads * config.attention.dim_head
        self.embed = nn.Embedding(config.vocab, config.width)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm1": nn.LayerNorm(config.width),
                    "to_qkv": nn.Linear(config.width, 3 * inner, bias=False),
                    "to_out": nn.Linear(inner, config.width),
                    "norm2": nn.LayerNorm(config.width),
                    "up": nn.Linear(config.width, config.mlp.hidden),
                    "down": nn.Linear(config.mlp.hidden, config.width),
                }
            )
            for _ in range(config.depth)
        )
        self.norm, self.head = nn.LayerNorm(config.width), nn.Linear(config.width, config.vocab)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for layer in self.layers:
            part: Any = layer
            qkv = part.to_qkv(part.norm1(x)).chunk(3, dim=-1)
            q, k, v = (y.unflatten(-1, (self.config.attention.heads, -1)).transpose(1, 2) for y in qkv)
            x = x + part.to_out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
            x = x + part.down(getattr(F, self.config.mlp.act)(part.up(part.norm2(x))))
        out: Tensor = self.head(self.norm(x))
        return out


class Hydra(nn.Module):
    """Its config is a mapping of mappings, with attributes too, as OmegaConf has it."""

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.cfg = cfg
        m = cfg["model"]
        self.inp = nn.Linear(cfg["data"]["n_features"], m["width"])
        self.hidden = nn.Linear(m["width"], m["inner"])
        self.back = nn.Linear(m["inner"], m["width"])
        self.norm, self.out = nn.LayerNorm(m["width"]), nn.Linear(m["width"], cfg["data"]["n_targets"])

    def forward(self, x: Tensor) -> Tensor:
        h = self.inp(x)
        out: Tensor = self.out(self.norm(h + self.back(F.gelu(self.hidden(h)))))
        return out


HYDRA = {"model": {"width": 22, "inner": 34}, "data": {"n_features": 6, "n_targets": 5}, "optim": {"lr": 1e-3}}


STYLES: dict[str, Style] = {
    "nested dataclasses": Style(
        lambda: Nested(NestedConfig()),
        lambda s: {"ids": tokens(39, 2, 9, seed=s)},
        {},
        ("width", "attention.heads", "mlp.hidden"),
        ("vocab", "attention.dim_head"),
    ),
    "nested mappings": Style(
        lambda: Hydra(HYDRA),
        lambda s: {"x": floats(5, 6, seed=s)},
        {"config": HYDRA},
        ("model.width", "model.inner"),
        ("data.n_features", "data.n_targets"),
    ),
}
