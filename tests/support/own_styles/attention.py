"""Attention modules of torch, a mixture of experts, and layers that mix tokens."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.own_styles.style import Style, floats, keywords, of, tokens

# torch's own Transformer: fused in_proj_weight, encoder and decoder.


class Seq2Seq(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.src, self.tgt = (
            nn.Embedding(config.src_vocab, config.d_model),
            nn.Embedding(config.tgt_vocab, config.d_model),
        )
        self.transformer = nn.Transformer(
            config.d_model,
            config.nhead,
            config.enc_layers,
            config.dec_layers,
            config.dim_feedforward,
            batch_first=True,
        )
        self.generator = nn.Linear(config.d_model, config.tgt_vocab)

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(
            tgt.shape[1], device=tgt.device, dtype=self.src.weight.dtype
        )
        hidden = self.transformer(self.src(src), self.tgt(tgt), tgt_mask=mask)
        out: Tensor = self.generator(hidden)
        return out


class Encoder(nn.Module):
    """nn.TransformerEncoderLayer, pre-norm, with a padding mask."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config["vocab_size"], config["d_model"])
        layer = nn.TransformerEncoderLayer(
            config["d_model"], config["nhead"], config["ffn"], activation="gelu", norm_first=True, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(
            layer, config["layers"], norm=nn.LayerNorm(config["d_model"]), enable_nested_tensor=False
        )
        self.head = nn.Linear(config["d_model"], config["n_classes"])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.encoder(self.embed(x)).mean(1))
        return out


class CrossReader(nn.Module):
    """nn.MultiheadAttention with queries that are parameters and keys of another width."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.latents = nn.Parameter(torch.randn(config.n_latents, config.latent_dim))
        self.inp = nn.Linear(config.n_features, config.input_dim)
        self.attn = nn.MultiheadAttention(
            config.latent_dim, config.num_heads, kdim=config.input_dim, vdim=config.input_dim, batch_first=True
        )
        self.norm, self.out = nn.LayerNorm(config.latent_dim), nn.Linear(config.latent_dim, config.n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        memory = torch.tanh(self.inp(x))
        latents = self.latents.expand(len(x), -1, -1)
        y, _ = self.attn(latents, memory, memory, need_weights=False)
        out: Tensor = self.out(self.norm(latents + y).mean(1))
        return out


# A mixture of experts, one expert after the other.


class MoE(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.hidden)
        self.norm, self.gate = nn.LayerNorm(config.hidden), nn.Linear(config.hidden, config.num_experts, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(config.hidden, config.ffn), nn.SiLU(), nn.Linear(config.ffn, config.hidden))
            for _ in range(config.num_experts)
        )
        self.head = nn.Linear(config.hidden, config.vocab_size)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        read = self.norm(x).flatten(0, 1)
        weights, chosen = torch.topk(self.gate(read), self.config.top_k)
        weights = F.softmax(weights, dim=-1)
        out = torch.zeros_like(read)
        for number, expert in enumerate(self.experts):
            rows, nth = torch.where(chosen == number)
            out[rows] += weights[rows, nth, None] * expert(read[rows])
        logits: Tensor = self.head(x + out.view_as(x))
        return logits


MIX = {"dim": 24, "hidden": 40, "tokens": 9, "classes": 5}


class TokenMix(nn.Module):
    """Tokens are mixed by a matrix, classes are counted by a field."""

    def __init__(self, dim: int, hidden: int, tokens: int, classes: int) -> None:
        super().__init__()
        self.inp, self.tok, self.n = nn.Linear(7, dim), nn.Linear(tokens, tokens), nn.LayerNorm(dim)
        self.a, self.b, self.head = nn.Linear(dim, hidden), nn.Linear(hidden, dim), nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inp(x)
        x = x + self.tok(self.n(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.b(F.silu(self.a(self.n(x))))
        out: Tensor = self.head(x.mean(1))
        return out


STYLES: dict[str, Style] = {
    "nn.Transformer": Style(
        of(
            Seq2Seq,
            src_vocab=37,
            tgt_vocab=41,
            d_model=24,
            nhead=4,
            enc_layers=2,
            dec_layers=1,
            dim_feedforward=52,
            max_len=30,
        ),
        lambda s: {"src": tokens(37, 2, 8, seed=s), "tgt": tokens(41, 2, 6, seed=s + 1)},
        {"inputs": lambda c: (torch.randint(c.src_vocab, (2, 8)), torch.randint(c.tgt_vocab, (2, 6)))},
        ("d_model", "nhead", "dim_feedforward"),
        ("tgt_vocab",),
    ),
    "nn.TransformerEncoderLayer": Style(
        lambda: Encoder({"vocab_size": 43, "d_model": 28, "nhead": 4, "ffn": 50, "layers": 2, "n_classes": 6}),
        lambda s: {"x": tokens(43, 3, 7, seed=s)},
        {},
        ("d_model", "nhead", "ffn"),
        ("n_classes",),
    ),
    "nn.MultiheadAttention": Style(
        of(CrossReader, n_latents=5, latent_dim=21, n_features=4, input_dim=26, num_heads=3, n_outputs=2),
        lambda s: {"x": floats(2, 8, 4, seed=s)},
        {"inputs": lambda: torch.randn(2, 8, 4)},
        ("latent_dim", "input_dim", "num_heads"),
        ("n_features", "n_outputs", "n_latents"),
    ),
    "MoE": Style(
        of(MoE, vocab_size=39, hidden=20, ffn=34, num_experts=5, top_k=2),
        lambda s: {"ids": tokens(39, 2, 9, seed=s)},
        {},
        ("hidden", "ffn"),
        ("num_experts", "top_k"),
    ),
    "token mixing": Style(
        lambda: TokenMix(**MIX),
        lambda s: {"x": floats(2, 9, 7, seed=s)},
        keywords(TokenMix, MIX, inputs=lambda: torch.randn(2, 9, 7)),
        ("dim", "hidden"),
        ("tokens", "classes"),
    ),
}
