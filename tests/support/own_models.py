"""Modules as people write them, none of them registered, and a declaration of each by hand."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from growth.architectures import (
    ATTENDED,
    FFN_LAWS,
    FINAL,
    KEYS,
    NORMED,
    QUERIES,
    RESIDUAL,
    VALUES,
    Architecture,
    Copied,
    Dual,
    Keeps,
    LayerNorm,
    Linear,
    Reads,
    RMSNorm,
    Size,
    Space,
    Times,
    TwinFields,
    Writes,
    attention_laws,
    attention_scale,
    embedding,
    feed_forward,
    linear,
    norm,
    standard_sizes,
    under,
)


@dataclass
class GPTConfig:
    """As nanoGPT has it."""

    block_size: int = 16
    vocab_size: int = 50
    n_layer: int = 3
    n_head: int = 4
    n_embd: int = 24
    dropout: float = 0.0
    bias: bool = True


class CausalSelfAttention(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        assert config.n_embd % config.n_head == 0
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.n_head, self.n_embd, self.dropout = config.n_head, config.n_embd, config.dropout

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.size()
        q, k, v = self.c_attn(x).split(self.n_embd, dim=2)
        q, k, v = (y.view(b, t, self.n_head, c // self.n_head).transpose(1, 2) for y in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.0, is_causal=True)
        out: Tensor = self.c_proj(y.transpose(1, 2).contiguous().view(b, t, c))
        return out


class MLP(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.gelu = nn.GELU()
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(self.gelu(self.c_fc(x)))
        return out


class Block(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(config.n_embd), nn.LayerNorm(config.n_embd)
        self.attn, self.mlp = CausalSelfAttention(config), MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class GPT(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(config.vocab_size, config.n_embd),
                "wpe": nn.Embedding(config.block_size, config.n_embd),
                "drop": nn.Dropout(config.dropout),
                "h": nn.ModuleList([Block(config) for _ in range(config.n_layer)]),
                "ln_f": nn.LayerNorm(config.n_embd),
            }
        )
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.transformer["wte"].weight = self.lm_head.weight

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        t = idx.size(1)
        assert t <= self.config.block_size, f"cannot read {t} tokens"
        parts: Any = self.transformer
        x = parts.drop(parts.wte(idx) + parts.wpe(torch.arange(t, device=idx.device)))
        for block in parts.h:
            x = block(x)
        logits = self.lm_head(parts.ln_f(x))
        loss = None if targets is None else F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return logits, loss


GPT_DECLARED = Architecture(
    "gpt",
    modules=under(
        "transformer",
        {
            "wte": embedding(RESIDUAL),
            "wpe": embedding(RESIDUAL),
            "h.*.ln_1": norm(RESIDUAL, NORMED),
            "h.*.attn.c_attn": linear(NORMED, QUERIES + KEYS + VALUES),
            "h.*.attn.c_proj": linear(ATTENDED, RESIDUAL),
            "h.*.ln_2": norm(RESIDUAL, NORMED),
            **feed_forward(("h.*.mlp.c_fc",), "h.*.mlp.c_proj", reads=NORMED, writes=RESIDUAL),
            "ln_f": norm(RESIDUAL, FINAL),
        },
    )
    | {"lm_head": linear(FINAL)},
    laws={RESIDUAL: LayerNorm(), NORMED: Linear(RESIDUAL), FINAL: Dual(RESIDUAL), **FFN_LAWS, **attention_laws()},
    sizes={
        **standard_sizes("n_embd", "", "n_head", "", ""),
        "intermediate_size": Size(follows=Times(4, "hidden_size")),
    },
    constants={"attention_scale": attention_scale},
    epsilon=1e-5,
    twin=TwinFields({"n_layer": 2}),
)


class Scale(nn.Module):
    """An RMSNorm whose epsilon the code fixes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class Decoder(nn.Module):
    """It has keyword arguments, keeps no config, and computes something of a tensor's value."""

    def __init__(self, *, vocab: int, dim: int, heads: int, hidden: int, layers: int = 2, act: Any = F.silu) -> None:
        super().__init__()
        self.act, self.heads, self.rates = act, heads, [rate.item() for rate in torch.linspace(0, 0.1, layers)]
        self.tokens = nn.Embedding(vocab, dim)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm": Scale(dim),
                    "qkv": nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in range(3)),
                    "out": nn.Linear(dim, dim, bias=False),
                    "norm2": Scale(dim),
                    "gate": nn.Linear(dim, hidden, bias=False),
                    "up": nn.Linear(dim, hidden, bias=False),
                    "down": nn.Linear(hidden, dim, bias=False),
                }
            )
            for _ in range(layers)
        )
        self.norm, self.head = Scale(dim), nn.Linear(dim, vocab, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids)
        for layer in self.layers:
            part: Any = layer
            read = part.norm(x)
            q, k, v = (project(read).unflatten(-1, (self.heads, -1)).transpose(1, 2) for project in part.qkv)
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
            x = x + part.out(attended)
            read = part.norm2(x)
            x = x + part.down(self.act(part.gate(read)) * part.up(read))
        logits: Tensor = self.head(self.norm(x))
        return logits


DECODER_CONFIG = {"vocab": 50, "dim": 24, "heads": 4, "hidden": 40, "layers": 3, "act": F.gelu}
DECODER_DECLARED = Architecture(
    "decoder",
    modules={
        "tokens": embedding(RESIDUAL),
        **under(
            "layers.*",
            {
                "norm": norm(RESIDUAL, NORMED),
                "qkv.0": linear(NORMED, QUERIES),
                "qkv.1": linear(NORMED, KEYS),
                "qkv.2": linear(NORMED, VALUES),
                "out": linear(ATTENDED, RESIDUAL),
                "norm2": norm(RESIDUAL, NORMED),
                **feed_forward(("gate", "up"), "down", reads=NORMED, writes=RESIDUAL),
            },
        ),
        "norm": norm(RESIDUAL, FINAL),
        "head": linear(FINAL),
    },
    laws={RESIDUAL: RMSNorm(), NORMED: Linear(), FINAL: Linear(), **FFN_LAWS, **attention_laws()},
    sizes=standard_sizes("dim", "hidden", "heads", "", ""),
    constants={"attention_scale": attention_scale},
    epsilon=1e-6,
    twin=TwinFields({"layers": 2}),
)


class Selective(nn.Module):
    """A small selective state-space model of floats ``[batch, length, features]``, with a depthwise
    convolution."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        inner = config.expand * config.width
        self.embed = nn.Linear(config.features, config.width)
        self.norm = nn.LayerNorm(config.width)
        self.in_proj = nn.Linear(config.width, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, config.kernel, groups=inner, padding=config.kernel - 1)
        self.x_proj = nn.Linear(inner, config.rank + 2 * config.state, bias=False)
        self.dt_proj = nn.Linear(config.rank, inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, config.state + 1)).repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, config.width, bias=False)
        self.final, self.head = nn.LayerNorm(config.width), nn.Linear(config.width, config.classes)

    def forward(self, signal: Tensor, *, scale: float = 1.0) -> dict[str, Tensor]:
        x = self.embed(signal) * scale
        u, z = self.in_proj(self.norm(x)).chunk(2, -1)
        u = F.silu(self.conv(u.transpose(1, 2))[..., : u.shape[1]].transpose(1, 2))
        split = (self.config.rank, self.config.state, self.config.state)
        dt, b, c = self.x_proj(u).split(split, -1)
        dt = F.softplus(self.dt_proj(dt))
        state, steps = u.new_zeros(len(u), u.shape[-1], self.config.state), []
        for t in range(u.shape[1]):
            decay = torch.exp(-dt[:, t, :, None] * torch.exp(self.A_log))
            state = decay * state + dt[:, t, :, None] * b[:, t, None] * u[:, t, :, None]
            steps.append((state * c[:, t, None]).sum(-1) + self.D * u[:, t])
        x = x + self.out_proj(torch.stack(steps, 1) * F.silu(z))
        features = self.final(x)
        return {"classes": self.head(features.mean(1)), "features": features}


INNER = Space("inner", "inner_size")


def selective_config(**changes: Any) -> SimpleNamespace:
    fields = {"features": 5, "width": 16, "expand": 2, "state": 4, "rank": 3, "kernel": 4, "classes": 7}
    return SimpleNamespace(**{**fields, "act": nn.SiLU, "dtype": "float32", **changes})


SELECTIVE_DECLARED = Architecture(
    "selective",
    modules={
        "": {"A_log": (Writes(INNER), Keeps()), "D": (Writes(INNER),)},
        "embed": {"weight": (Writes(RESIDUAL), Keeps()), "bias": (Writes(RESIDUAL),)},
        "norm": norm(RESIDUAL, NORMED),
        "in_proj": linear(NORMED, INNER + INNER),
        "conv": {"weight": (Writes(INNER), Keeps(), Keeps()), "bias": (Writes(INNER),)},
        "x_proj": {"weight": (Keeps(), Reads(INNER))},
        "dt_proj": {"weight": (Writes(INNER), Keeps()), "bias": (Writes(INNER),)},
        "out_proj": linear(INNER, RESIDUAL),
        "final": norm(RESIDUAL, FINAL),
        "head": linear(FINAL),
    },
    laws={
        RESIDUAL: LayerNorm(),
        NORMED: Linear(RESIDUAL),
        FINAL: Linear(RESIDUAL),
        INNER: Copied("a gate, and a scan of each channel"),
    },
    sizes={"hidden_size": Size("width", small=9), "inner_size": Size(follows=Times("expand", "hidden_size"))},
    outputs={"features": FINAL},
    epsilon=1e-5,
)
