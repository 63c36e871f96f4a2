"""Recurrent models, of torch and by hand, and a Mamba block."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.own_styles.style import Style, floats, of, tokens

# Recurrent models.


class Lstm(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.embedding_dim)
        self.lstm = nn.LSTM(config.embedding_dim, config.hidden_size, config.num_layers, batch_first=True)
        self.head = nn.Linear(config.hidden_size, config.vocab_size)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.lstm(self.embed(x))[0])
        return out


class Gru(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.gru = nn.GRU(config.n_features, config.hidden_size, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * config.hidden_size, config.n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.gru(x)[0].mean(1))
        return out


class MinimalGru(nn.Module):
    """Cells by hand."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.emb)
        self.cell, self.head = nn.GRUCell(config.emb, config.hidden), nn.Linear(config.hidden, config.vocab_size)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(len(x), self.config.hidden, dtype=self.head.weight.dtype, device=x.device)
        steps = []
        for t in range(x.shape[1]):
            state = self.cell(self.embed(x[:, t]), state)
            steps.append(state)
        out: Tensor = self.head(torch.stack(steps, 1))
        return out


# A Mamba block as in mamba.py.


@dataclass
class MambaConfig:
    d_model: int = 20
    n_layers: int = 2
    vocab_size: int = 43
    d_state: int = 4
    expand_factor: int = 2
    d_conv: int = 3
    dt_rank: int = 5
    d_inner: int = field(init=False)

    def __post_init__(self) -> None:
        self.d_inner = self.expand_factor * self.d_model


class MambaBlock(nn.Module):
    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        self.config = config
        self.in_proj = nn.Linear(config.d_model, 2 * config.d_inner, bias=False)
        self.conv1d = nn.Conv1d(
            config.d_inner, config.d_inner, config.d_conv, groups=config.d_inner, padding=config.d_conv - 1
        )
        self.x_proj = nn.Linear(config.d_inner, config.dt_rank + 2 * config.d_state, bias=False)
        self.dt_proj = nn.Linear(config.dt_rank, config.d_inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, config.d_state + 1).float().repeat(config.d_inner, 1)))
        self.D = nn.Parameter(torch.ones(config.d_inner))
        self.out_proj = nn.Linear(config.d_inner, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x, z = self.in_proj(x).chunk(2, dim=-1)
        x = F.silu(self.conv1d(x.transpose(1, 2))[:, :, : x.shape[1]].transpose(1, 2))
        delta, b, c = torch.split(
            self.x_proj(x), [self.config.dt_rank, self.config.d_state, self.config.d_state], dim=-1
        )
        delta, a = F.softplus(self.dt_proj(delta)), -torch.exp(self.A_log)
        decay, fed = torch.exp(delta.unsqueeze(-1) * a), delta.unsqueeze(-1) * b.unsqueeze(2) * x.unsqueeze(-1)
        h = torch.zeros(x.size(0), self.config.d_inner, self.config.d_state, device=x.device, dtype=x.dtype)
        hs = []
        for t in range(x.shape[1]):
            h = decay[:, t] * h + fed[:, t]
            hs.append(h)
        y = (torch.stack(hs, dim=1) @ c.unsqueeze(-1)).squeeze(3) + self.D * x
        out: Tensor = self.out_proj(y * F.silu(z))
        return out


class MambaLM(nn.Module):
    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList([MambaBlock(config) for _ in range(config.n_layers)])
        self.norms = nn.ModuleList([nn.RMSNorm(config.d_model, eps=1e-5) for _ in range(config.n_layers)])
        self.norm_f, self.lm_head = (
            nn.RMSNorm(config.d_model),
            nn.Linear(config.d_model, config.vocab_size, bias=False),
        )
        self.lm_head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + layer(norm(x))
        out: Tensor = self.lm_head(self.norm_f(x))
        return out


STYLES: dict[str, Style] = {
    "nn.LSTM": Style(
        of(Lstm, vocab_size=37, embedding_dim=18, hidden_size=26, num_layers=2),
        lambda s: {"x": tokens(37, 2, 7, seed=s)},
        {},
        ("embedding_dim", "hidden_size"),
    ),
    "nn.GRU": Style(
        of(Gru, n_features=5, hidden_size=14, n_outputs=3),
        lambda s: {"x": floats(2, 7, 5, seed=s)},
        {"inputs": torch.randn(2, 7, 5)},
        ("hidden_size",),
        ("n_features", "n_outputs"),
    ),
    "nn.GRUCell": Style(
        of(MinimalGru, vocab_size=37, emb=18, hidden=26),
        lambda s: {"x": tokens(37, 2, 7, seed=s)},
        {},
        ("emb", "hidden"),
    ),
    "Mamba": Style(
        lambda: MambaLM(MambaConfig()),
        lambda s: {"tokens": tokens(43, 2, 8, seed=s)},
        {},
        ("d_model",),
        ("d_state", "dt_rank"),
    ),
}
