"""Decoders of text: minGPT, Llama as in Meta's repository, and what is written beside them."""

from __future__ import annotations

import math
from argparse import Namespace
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.own_styles.style import Style, of, tokens

# minGPT: a namespace as config, a mask in a buffer, heads counted beside the width.


class MinAttention(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        assert config.n_embd % config.n_head == 0
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.attn_dropout, self.resid_dropout = nn.Dropout(config.attn_pdrop), nn.Dropout(config.resid_pdrop)
        mask = torch.tril(torch.ones(config.block_size, config.block_size))
        self.register_buffer("bias", mask.view(1, 1, config.block_size, config.block_size))
        self.n_head, self.n_embd = config.n_head, config.n_embd

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.size()
        q, k, v = self.c_attn(x).split(self.n_embd, dim=2)
        k = k.view(b, t, self.n_head, c // self.n_head).transpose(1, 2)
        q = q.view(b, t, self.n_head, c // self.n_head).transpose(1, 2)
        v = v.view(b, t, self.n_head, c // self.n_head).transpose(1, 2)
        att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        att = att.masked_fill(self.bias[:, :, :t, :t] == 0, float("-inf"))  # type: ignore[index]
        y = self.attn_dropout(F.softmax(att, dim=-1)) @ v
        out: Tensor = self.resid_dropout(self.c_proj(y.transpose(1, 2).contiguous().view(b, t, c)))
        return out


class NewGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


class MinBlock(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.ln_1, self.attn, self.ln_2 = (
            nn.LayerNorm(config.n_embd),
            MinAttention(config),
            nn.LayerNorm(config.n_embd),
        )
        self.mlp = nn.ModuleDict(
            {
                "c_fc": nn.Linear(config.n_embd, 4 * config.n_embd),
                "c_proj": nn.Linear(4 * config.n_embd, config.n_embd),
                "act": NewGELU(),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        m: Any = self.mlp
        out: Tensor = x + m.c_proj(m.act(m.c_fc(self.ln_2(x))))
        return out


class MinGPT(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config, self.block_size = config, config.block_size
        self.wte, self.wpe = (
            nn.Embedding(config.vocab_size, config.n_embd),
            nn.Embedding(config.block_size, config.n_embd),
        )
        self.h = nn.ModuleList([MinBlock(config) for _ in range(config.n_layer)])
        self.ln_f, self.lm_head = nn.LayerNorm(config.n_embd), nn.Linear(config.n_embd, config.vocab_size, bias=False)

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        pos = torch.arange(0, idx.size(1), dtype=torch.long, device=idx.device).unsqueeze(0)
        x = self.wte(idx) + self.wpe(pos)
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        loss = None if targets is None else F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))
        return logits, loss


def min_gpt() -> nn.Module:
    return MinGPT(
        Namespace(
            model_type=None,
            n_layer=2,
            n_head=3,
            n_embd=24,
            vocab_size=37,
            block_size=19,
            embd_pdrop=0.1,
            resid_pdrop=0.1,
            attn_pdrop=0.1,
        )
    )


# Llama as in Meta's repository: complex rotary pairs, grouped queries, an RMSNorm by hand.


@dataclass
class ModelArgs:
    dim: int = 48
    n_layers: int = 2
    n_heads: int = 6
    n_kv_heads: int | None = 2
    vocab_size: int = 41
    multiple_of: int = 1
    ffn_dim: int = 52
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    max_seq_len: int = 32


class MetaRMSNorm(nn.Module):
    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps, self.weight = eps, nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def rotated(x: Tensor, turns: Tensor) -> Tensor:
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns[None, :, None]).flatten(3)


class MetaAttention(nn.Module):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.n_heads, self.n_kv = args.n_heads, args.n_kv_heads or args.n_heads
        self.head_dim = args.dim // args.n_heads
        self.wq = nn.Linear(args.dim, args.n_heads * self.head_dim, bias=False)
        self.wk = nn.Linear(args.dim, self.n_kv * self.head_dim, bias=False)
        self.wv = nn.Linear(args.dim, self.n_kv * self.head_dim, bias=False)
        self.wo = nn.Linear(args.n_heads * self.head_dim, args.dim, bias=False)

    def forward(self, x: Tensor, turns: Tensor, mask: Tensor) -> Tensor:
        b, t, _ = x.shape
        q = rotated(self.wq(x).view(b, t, self.n_heads, self.head_dim), turns)
        k = rotated(self.wk(x).view(b, t, self.n_kv, self.head_dim), turns)
        v = self.wv(x).view(b, t, self.n_kv, self.head_dim)
        times = self.n_heads // self.n_kv
        k, v = (y[:, :, :, None].expand(-1, -1, -1, times, -1).reshape(b, t, self.n_heads, -1) for y in (k, v))
        q, k, v = (y.transpose(1, 2) for y in (q, k, v))
        scores = torch.matmul(q, k.transpose(2, 3)) / math.sqrt(self.head_dim) + mask
        scores = F.softmax(scores.float() if scores.dtype == torch.half else scores, dim=-1).type_as(q)
        out: Tensor = self.wo(torch.matmul(scores, v).transpose(1, 2).contiguous().view(b, t, -1))
        return out


class MetaLlama(nn.Module):
    def __init__(self, params: ModelArgs) -> None:
        super().__init__()
        self.params = params
        self.tok_embeddings = nn.Embedding(params.vocab_size, params.dim)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "attention": MetaAttention(params),
                    "attention_norm": MetaRMSNorm(params.dim, params.norm_eps),
                    "ffn_norm": MetaRMSNorm(params.dim, params.norm_eps),
                    "w1": nn.Linear(params.dim, params.ffn_dim, bias=False),
                    "w2": nn.Linear(params.ffn_dim, params.dim, bias=False),
                    "w3": nn.Linear(params.dim, params.ffn_dim, bias=False),
                }
            )
            for _ in range(params.n_layers)
        )
        self.norm = MetaRMSNorm(params.dim, params.norm_eps)
        self.output = nn.Linear(params.dim, params.vocab_size, bias=False)
        half = torch.arange(0, params.dim // params.n_heads, 2).double()
        angles = torch.outer(
            torch.arange(params.max_seq_len).double(), params.rope_theta ** (-half * params.n_heads / params.dim)
        )
        self.register_buffer("freqs_cis", torch.polar(torch.ones_like(angles), angles), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        t = tokens.shape[1]
        h = self.tok_embeddings(tokens)
        mask = torch.triu(torch.full((t, t), float("-inf"), device=h.device, dtype=h.dtype), diagonal=1)
        turns = self.freqs_cis[:t]  # type: ignore[index]
        turns = turns if h.dtype == torch.float64 else turns.to(torch.complex64)
        for layer in self.layers:
            part: Any = layer
            h = h + part.attention(part.attention_norm(h), turns, mask)
            read = part.ffn_norm(h)
            h = h + part.w2(F.silu(part.w1(read)) * part.w3(read))
        out: Tensor = self.output(self.norm(h))
        return out


class Sized(nn.Module):
    """A residual multiplied by 1 / sqrt(dim), and tied embeddings."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.n_tokens, config.dim)
        self.fc, self.proj = nn.Linear(config.dim, config.ff), nn.Linear(config.ff, config.dim)
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x) * math.sqrt(self.config.dim)
        h = h + self.proj(F.gelu(self.fc(self.norm(h))))
        return self.norm(h) @ self.embed.weight.t() * self.config.dim**-0.5


class Shared(nn.Module):
    """Several queries share a key and value by an argument of torch's attention; a norm of each head; a
    head that is the embedding, behind a soft cap."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        inner, shared = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
        self.embed = nn.Embedding(config.vocab_size, config.dim)
        self.q, self.kv = nn.Linear(config.dim, inner, bias=False), nn.Linear(config.dim, 2 * shared, bias=False)
        self.out = nn.Linear(inner, config.dim, bias=False)
        self.q_norm, self.k_norm = nn.RMSNorm(config.head_dim), nn.RMSNorm(config.head_dim)
        self.norm, self.final = nn.RMSNorm(config.dim), nn.RMSNorm(config.dim)
        self.gate_up = nn.Linear(config.dim, 2 * config.d_ff, bias=False)
        self.down = nn.Linear(config.d_ff, config.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) * self.config.dim**0.5
        read, heads = self.norm(x), (*x.shape[:2], -1, self.config.head_dim)
        k, v = (y.view(heads) for y in self.kv(read).chunk(2, -1))
        q, k, v = (y.transpose(1, 2) for y in (self.q_norm(self.q(read).view(heads)), self.k_norm(k), v))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        gate, up = self.gate_up(read).chunk(2, -1)
        x = x + self.out(attended.transpose(1, 2).flatten(2)) + self.down(F.gelu(gate) * up)
        return 30 * torch.tanh(self.final(x) @ self.embed.weight.T / 30)


class Sinusoidal(nn.Module):
    """A table of sines is added to the stream."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.embed, self.head = nn.Embedding(config.n_tokens, config.dim), nn.Linear(config.dim, config.n_tokens)
        rates = torch.exp(torch.arange(0, config.dim, 2) * (-math.log(1e4) / config.dim))
        angles = torch.arange(64)[:, None] * rates
        self.register_buffer("pe", torch.stack([angles.sin(), angles.cos()], -1).flatten(1).double(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.embed(x) + self.pe[: x.shape[1]].to(self.embed.weight.dtype)))  # type: ignore[index]
        return out


STYLES: dict[str, Style] = {
    "minGPT": Style(min_gpt, lambda s: {"idx": tokens(37, 2, 9, seed=s)}, {}, ("n_embd", "n_head"), ("block_size",)),
    "Llama": Style(
        lambda: MetaLlama(ModelArgs()),
        lambda s: {"tokens": tokens(41, 2, 9, seed=s)},
        {"config": ModelArgs()},
        ("dim", "n_heads", "n_kv_heads", "ffn_dim"),
        ("max_seq_len",),
    ),
    "square roots": Style(
        of(Sized, n_tokens=37, dim=20, ff=34),
        lambda s: {"x": tokens(37, 2, 8, seed=s)},
        {},
        ("dim", "ff"),
        ("n_tokens",),
    ),
    "shared keys": Style(
        of(Shared, vocab_size=37, dim=20, n_heads=6, n_kv_heads=2, head_dim=8, d_ff=34),
        lambda s: {"x": tokens(37, 2, 8, seed=s)},
        {},
        ("dim", "n_heads", "n_kv_heads", "d_ff"),
        ("head_dim",),
    ),
    "sines": Style(
        of(Sinusoidal, n_tokens=37, dim=20),
        lambda s: {"x": tokens(37, 2, 8, seed=s)},
        says="a table that the model computes by itself, [11, 40] and in a wider model [11, 80]",
    ),
}
