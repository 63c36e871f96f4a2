"""Models of one's own as people write them: none is registered, and none was written for this library.

Each entry of `STYLES` says how one is made, what it is run on and what `growth.widen` is told beside the
module. All sizes of one model are different, so that no dimension can be taken for another.
"""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations


@dataclass
class Style:
    """One model.

    Args:
        make: makes it.
        inputs: seed -> arguments of the forward pass by name, in float64.
        told: what `growth.widen` is told.
        grows: fields that grow.
        keeps: fields that stay.
        says: what a refusal says, where it cannot grow.
    """

    make: Callable[[], nn.Module]
    inputs: Callable[[int], dict[str, Any]]
    told: dict[str, Any] = field(default_factory=dict)
    grows: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()
    says: str = ""


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def floats(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=drawn(seed), dtype=torch.float64)


def tokens(entries: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(entries, shape, generator=drawn(seed))


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


# A vision transformer with keyword arguments and no config.


class ViT(nn.Module):
    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        num_classes: int,
        dim: int,
        depth: int,
        heads: int,
        mlp_dim: int,
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.patch = nn.Conv2d(channels, dim, patch_size, stride=patch_size)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.pos_embedding = nn.Parameter(torch.randn(1, (image_size // patch_size) ** 2 + 1, dim))
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm1": nn.LayerNorm(dim, eps=1e-6),
                    "qkv": nn.Linear(dim, 3 * dim),
                    "proj": nn.Linear(dim, dim),
                    "norm2": nn.LayerNorm(dim, eps=1e-6),
                    "fc1": nn.Linear(dim, mlp_dim),
                    "fc2": nn.Linear(mlp_dim, dim),
                }
            )
            for _ in range(depth)
        )
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, num_classes)

    def forward(self, img: Tensor) -> Tensor:
        x = self.patch(img).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embedding
        for block in self.blocks:
            part: Any = block
            b, n, c = x.shape
            qkv = part.qkv(part.norm1(x)).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
            q, k, v = qkv.unbind(0)
            x = x + part.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))
            x = x + part.fc2(F.gelu(part.fc1(part.norm2(x))))
        out: Tensor = self.head(self.norm(x)[:, 0])
        return out


VIT = {"image_size": 12, "patch_size": 4, "num_classes": 7, "dim": 30, "depth": 2, "heads": 5, "mlp_dim": 44}


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


# Parametrized weights.


class Normed(nn.Module):
    """Weight norm by the old and the new way."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.inp = parametrizations.weight_norm(nn.Linear(config.n_inputs, config.hidden))
        self.mid = parametrizations.weight_norm(nn.Linear(config.hidden, config.mid))
        self.out = nn.Linear(config.mid, config.n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(torch.tanh(self.mid(torch.relu(self.inp(x)))))
        return out


class Spectral(Normed):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.mid = parametrizations.spectral_norm(nn.Linear(config.hidden, config.mid))


# A U-Net of images.


def conv_block(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, padding=1),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
        nn.Conv2d(out, out, 3, padding=1),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        c = config.base_channels
        self.down1, self.down2, self.mid = (
            conv_block(config.in_channels, c),
            conv_block(c, 2 * c),
            conv_block(2 * c, 4 * c),
        )
        self.pool = nn.MaxPool2d(2)
        self.up2, self.dec2 = nn.ConvTranspose2d(4 * c, 2 * c, 2, stride=2), conv_block(4 * c, 2 * c)
        self.up1, self.dec1 = nn.ConvTranspose2d(2 * c, c, 2, stride=2), conv_block(2 * c, c)
        self.out = nn.Conv2d(c, config.out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        d1 = self.down1(x)
        d2 = self.down2(self.pool(d1))
        y = self.up2(self.mid(self.pool(d2)))
        y = self.dec2(torch.cat([y, d2], dim=1))
        y = self.dec1(torch.cat([self.up1(y), d1], dim=1))
        out: Tensor = self.out(y)
        return out


# MLP-Mixer.


class MixerBlock(nn.Module):
    def __init__(self, tokens: int, dim: int, tokens_dim: int, channels_dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.tokens = nn.Sequential(nn.Linear(tokens, tokens_dim), nn.GELU(), nn.Linear(tokens_dim, tokens))
        self.channels = nn.Sequential(nn.Linear(dim, channels_dim), nn.GELU(), nn.Linear(channels_dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        out: Tensor = x + self.channels(self.norm2(x))
        return out


class Mixer(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        count = (config.image_size // config.patch_size) ** 2
        self.stem = nn.Conv2d(3, config.hidden_dim, config.patch_size, config.patch_size)
        self.blocks = nn.Sequential(
            *(
                MixerBlock(count, config.hidden_dim, config.tokens_mlp_dim, config.channels_mlp_dim)
                for _ in range(config.num_blocks)
            )
        )
        self.norm, self.head = nn.LayerNorm(config.hidden_dim), nn.Linear(config.hidden_dim, config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(self.blocks(self.stem(x).flatten(2).transpose(1, 2))).mean(1))
        return out


class Autoencoder(nn.Module):
    """The decoder's matrices are the encoder's, transposed."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.enc1, self.enc2 = nn.Linear(config.n_inputs, config.hidden), nn.Linear(config.hidden, config.code)
        self.b1, self.b2 = nn.Parameter(torch.zeros(config.hidden)), nn.Parameter(torch.zeros(config.n_inputs))

    def forward(self, x: Tensor) -> Tensor:
        code = torch.sigmoid(self.enc2(torch.sigmoid(self.enc1(x))))
        return F.linear(torch.sigmoid(F.linear(code, self.enc2.weight.t(), self.b1)), self.enc1.weight.t(), self.b2)


class Denoiser(nn.Module):
    """An MLP that is told the time of a diffusion."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.time = nn.Sequential(
            nn.Linear(config.time_dim, config.hidden), nn.SiLU(), nn.Linear(config.hidden, config.hidden)
        )
        self.inp = nn.Linear(config.data_dim, config.hidden)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm": nn.LayerNorm(config.hidden),
                    "mod": nn.Linear(config.hidden, 2 * config.hidden),
                    "fc": nn.Linear(config.hidden, config.hidden),
                }
            )
            for _ in range(config.depth)
        )
        self.out = nn.Linear(config.hidden, config.data_dim)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        half = self.config.time_dim // 2
        rates = torch.exp(-math.log(10000) * torch.arange(half, device=x.device, dtype=x.dtype) / half)
        angles = t[:, None].to(x.dtype) * rates
        emb = self.time(torch.cat([angles.sin(), angles.cos()], -1))
        h = self.inp(x)
        for block in self.blocks:
            part: Any = block
            scale, shift = part.mod(F.silu(emb)).chunk(2, -1)
            h = h + part.fc(F.silu(part.norm(h) * (1 + scale) + shift))
        out: Tensor = self.out(h)
        return out


class TwoTower(nn.Module):
    """Queries and items, compared by a cosine with a temperature."""

    def __init__(self, n_users: int, n_items: int, dim: int, user_hidden: int, item_hidden: int) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(n_users, user_hidden), nn.Embedding(n_items, item_hidden)
        self.user, self.item = nn.Linear(user_hidden, dim), nn.Linear(item_hidden, dim)
        self.logit_scale = nn.Parameter(torch.tensor(1.2))

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        u, v = self.user(torch.tanh(self.users(user))), self.item(torch.tanh(self.items(item)))
        return self.logit_scale.exp() * F.normalize(u, dim=-1) @ F.normalize(v, dim=-1).t()


TOWERS = {"n_users": 31, "n_items": 29, "dim": 12, "user_hidden": 18, "item_hidden": 22}


class Dotted(TwoTower):
    """The same by a plain product."""

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return (self.user(torch.tanh(self.users(user))) * self.item(torch.tanh(self.items(item)))).sum(-1)


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


MIX = {"dim": 24, "hidden": 40, "tokens": 9, "classes": 5}


class Bare(nn.Module):
    """No config at all: sizes are in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 18), nn.Linear(18, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(torch.relu(self.up(x)))
        return out


class ActorCritic(nn.Module):
    """Two heads, of actions and of a value."""

    def __init__(self, obs_dim: int, num_actions: int, hidden: int) -> None:
        super().__init__()
        self.obs_dim, self.num_actions, self.hidden = obs_dim, num_actions, hidden
        self.body = nn.Sequential(nn.Linear(obs_dim, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh())
        self.actor, self.critic = nn.Linear(hidden, num_actions), nn.Linear(hidden, 1)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(obs)
        return self.actor(h), self.critic(h).squeeze(-1)


class ConvNet(nn.Module):
    """Convolutions whose channels are a list."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        channels = [3, *config.channels]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(channels))
        self.head = nn.Linear(channels[-1], config.classes)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = F.relu(conv(x))
        out: Tensor = self.head(x.mean((2, 3)))
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


class Vae(nn.Module):
    """It returns its code beside what it makes of it."""

    def __init__(self, x_dim: int, h_dim: int, z_dim: int, always: bool = False) -> None:
        super().__init__()
        self.always = always
        self.enc, self.mu, self.log = nn.Linear(x_dim, h_dim), nn.Linear(h_dim, z_dim), nn.Linear(h_dim, z_dim)
        self.dec, self.out = nn.Linear(z_dim, h_dim), nn.Linear(h_dim, x_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = F.relu(self.enc(x))
        mu, log = self.mu(h), self.log(h)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * log) if self.training or self.always else mu
        return torch.sigmoid(self.out(F.relu(self.dec(z)))), mu, log


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


def of(kind: Callable[[Any], nn.Module], **fields: Any) -> Callable[[], nn.Module]:
    return lambda: kind(Namespace(**fields))


def keywords(kind: Callable[..., nn.Module], config: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"config": config, "build": lambda config: kind(**config), **more}


STYLES: dict[str, Style] = {
    "minGPT": Style(min_gpt, lambda s: {"idx": tokens(37, 2, 9, seed=s)}, {}, ("n_embd", "n_head"), ("block_size",)),
    "Llama": Style(
        lambda: MetaLlama(ModelArgs()),
        lambda s: {"tokens": tokens(41, 2, 9, seed=s)},
        {"config": ModelArgs()},
        ("dim", "n_heads", "n_kv_heads", "ffn_dim"),
        ("max_seq_len",),
    ),
    "ViT": Style(
        lambda: ViT(**VIT),
        lambda s: {"img": floats(2, 3, 12, 12, seed=s)},
        keywords(ViT, VIT, inputs=torch.randn(2, 3, 12, 12)),
        ("dim", "heads", "mlp_dim"),
        ("num_classes", "image_size"),
    ),
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
    "MoE": Style(
        of(MoE, vocab_size=39, hidden=20, ffn=34, num_experts=5, top_k=2),
        lambda s: {"ids": tokens(39, 2, 9, seed=s)},
        {},
        ("hidden", "ffn"),
        ("num_experts", "top_k"),
    ),
    "weight norm": Style(
        of(Normed, n_inputs=6, hidden=20, mid=14, n_outputs=3),
        lambda s: {"x": floats(9, 6, seed=s)},
        {},
        ("hidden", "mid"),
        ("n_inputs", "n_outputs"),
    ),
    "spectral norm": Style(
        of(Spectral, n_inputs=6, hidden=20, mid=14, n_outputs=3),
        lambda s: {"x": floats(9, 6, seed=s)},
        says="'mid' has a spectral norm: it divides a matrix by an estimate that goes on changing in training",
    ),
    "U-Net": Style(
        of(UNet, in_channels=3, out_channels=2, base_channels=6),
        lambda s: {"x": floats(2, 3, 8, 8, seed=s)},
        {"inputs": torch.randn(2, 3, 8, 8)},
        ("base_channels",),
        ("in_channels", "out_channels"),
    ),
    "MLP-Mixer": Style(
        of(
            Mixer,
            image_size=8,
            patch_size=4,
            hidden_dim=22,
            tokens_mlp_dim=14,
            channels_mlp_dim=34,
            num_blocks=2,
            num_classes=7,
        ),
        lambda s: {"x": floats(2, 3, 8, 8, seed=s)},
        {"inputs": lambda: torch.randn(2, 3, 8, 8)},
        ("hidden_dim", "tokens_mlp_dim", "channels_mlp_dim"),
        ("num_classes", "patch_size", "image_size"),
    ),
    "tied autoencoder": Style(
        of(Autoencoder, n_inputs=15, hidden=11, code=4),
        lambda s: {"x": floats(5, 15, seed=s)},
        says="'enc2.weight' is used in several places, as a tied matrix is, and no copies of its rows and columns",
    ),
    "diffusion": Style(
        of(Denoiser, data_dim=5, time_dim=8, hidden=26, depth=2),
        lambda s: {"x": floats(6, 5, seed=s), "t": tokens(50, 6, seed=s)},
        {"inputs": lambda c: {"x": torch.randn(6, c.data_dim), "t": torch.randint(50, (6,))}},
        ("hidden",),
        ("data_dim",),
    ),
    "two towers": Style(
        lambda: TwoTower(**TOWERS),
        lambda s: {"user": tokens(31, 6, seed=s), "item": tokens(29, 5, seed=s)},
        keywords(
            TwoTower, TOWERS, inputs=lambda c: (torch.randint(c["n_users"], (6,)), torch.randint(c["n_items"], (5,)))
        ),
        ("dim", "user_hidden", "item_hidden"),
        ("n_users", "n_items"),
    ),
    "a product": Style(
        lambda: Dotted(**TOWERS),
        lambda s: {"user": tokens(31, 6, seed=s), "item": tokens(29, 6, seed=s)},
        keywords(
            Dotted, TOWERS, inputs=lambda c: (torch.randint(c["n_users"], (6,)), torch.randint(c["n_items"], (6,)))
        ),
        ("dim", "user_hidden", "item_hidden"),
        ("n_users", "n_items"),
    ),
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
    "token mixing": Style(
        lambda: TokenMix(**MIX),
        lambda s: {"x": floats(2, 9, 7, seed=s)},
        keywords(TokenMix, MIX, inputs=lambda: torch.randn(2, 9, 7)),
        ("dim", "hidden"),
        ("tokens", "classes"),
    ),
    "actor and critic": Style(
        lambda: ActorCritic(6, 4, 22),
        lambda s: {"obs": floats(5, 6, seed=s)},
        {"config": {"obs_dim": 6, "num_actions": 4, "hidden": 22}},
        ("hidden",),
        ("obs_dim", "num_actions"),
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
    "a code": Style(
        lambda: Vae(12, 20, 6),
        lambda s: {"x": floats(5, 12, seed=s)},
        {"config": {"x_dim": 12, "h_dim": 20, "z_dim": 6}},
        ("h_dim",),
        ("x_dim", "z_dim"),
    ),
    "random numbers": Style(
        lambda: Vae(12, 20, 6, always=True),
        lambda s: {"x": floats(5, 12, seed=s)},
        {"config": {"x_dim": 12, "h_dim": 20, "z_dim": 6, "always": True}},
        says="random numbers are drawn in eval mode, so that no two runs agree; draw them in training alone",
    ),
    "sines": Style(
        of(Sinusoidal, n_tokens=37, dim=20),
        lambda s: {"x": tokens(37, 2, 8, seed=s)},
        says="a table that the model computes by itself, [11, 40] and in a wider model [11, 80]",
    ),
    "a list of channels": Style(
        of(ConvNet, channels=[8, 12], classes=4),
        lambda s: {"x": floats(2, 3, 6, 6, seed=s)},
        {"inputs": torch.randn(2, 3, 6, 6)},
        says="no field of its config is a width of this ConvNet: channels is a list, of which no entry can grow alone",
    ),
    "no config": Style(lambda: Bare(), lambda s: {"x": floats(5, 6, seed=s)}, says="Bare has no config"),
}
