"""The models of `payoff_stack.py`: forward pass, loss and optimizer step of many runs of one Llama or Mixtral at once.
Each parameter is a slice of one buffer ``[runs, weights]``, each matrix product a batched one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import NamedTuple

import torch
from payoff_plan import Setting, Size, Sparse
from torch import Tensor
from torch.nn.functional import cross_entropy, embedding, silu
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)

BETAS, EPSILON, DECAY, CLIP = (0.9, 0.95), 1e-8, 0.1, 1.0
EPSILON_OF_NORMS = 1e-5
THETA = 10_000.0


def config_of(size: Size, setting: Setting) -> PreTrainedConfig:
    """With initial weights of deviation 0.6 / sqrt(width)."""
    heads = size.width // setting.head_dim
    common = {
        "vocab_size": setting.symbols,
        "hidden_size": size.width,
        "intermediate_size": size.features,
        "num_hidden_layers": size.layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": setting.head_dim,
        "max_position_embeddings": setting.context,
        "tie_word_embeddings": False,
        "initializer_range": 0.6 / math.sqrt(size.width),
        "rms_norm_eps": EPSILON_OF_NORMS,
        "rope_parameters": {"rope_type": "default", "rope_theta": THETA},
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    if isinstance(size, Sparse):
        return MixtralConfig(**common, num_local_experts=size.experts, num_experts_per_tok=size.experts // 2)
    return LlamaConfig(**common)


def build(config: PreTrainedConfig) -> PreTrainedModel:
    """transformers' own model, with initial weights."""
    return MixtralForCausalLM(config) if isinstance(config, MixtralConfig) else LlamaForCausalLM(config)


class Moments(NamedTuple):
    """Weights and the two moments of AdamW, each ``[runs, weights]``."""

    weights: Tensor
    first: Tensor
    second: Tensor


class Program:
    """The forward pass, loss and optimizer step of a stack of models of one size."""

    def __init__(self, size: Size, setting: Setting) -> None:
        self.size, self.setting = size, setting
        self.config = config_of(size, setting)
        with torch.device("meta"):
            named = dict(build(self.config).named_parameters())
        self.shapes = {name: tuple(weight.shape) for name, weight in named.items()}
        self.counts = [math.prod(shape) for shape in self.shapes.values()]
        matrices = [torch.full((math.prod(shape),), float(len(shape) > 1)) for shape in self.shapes.values()]
        device = torch.device(setting.device)
        self.decayed = torch.cat(matrices).unsqueeze(0).to(device)
        half = torch.arange(0, setting.head_dim, 2) / setting.head_dim
        angles = torch.outer(torch.arange(setting.context).float(), THETA**-half).repeat(1, 2).to(device)
        self.cosine, self.sine = angles.cos(), angles.sin()
        self.mask = torch.full((setting.context, setting.context), -math.inf, device=device).triu(1)
        self.trained_losses: Callable[[Tensor, Tensor], Tensor] = self.losses
        self.step: Callable[..., Moments] = adamw
        if setting.compiled:
            torch._dynamo.config.recompile_limit = 256  # one for each size; beyond it runs go on uncompiled
            self.trained_losses = torch.compile(self.losses, dynamic=False)
            self.step = torch.compile(adamw, dynamic=False)

    def parameters(self, flat: Tensor) -> dict[str, Tensor]:
        """Views of the buffer: name -> ``[runs, *shape]``."""
        parts = flat.split(self.counts, 1)
        return {
            name: part.view(len(flat), *shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def logits(self, flat: Tensor, tokens: Tensor) -> Tensor:
        """Of tokens ``[runs, batch, context]``: ``[runs, batch * context, symbols]``."""
        weights = self.parameters(flat)
        runs, batch, context = tokens.shape
        table = weights["model.embed_tokens.weight"]
        rows = tokens.reshape(runs, -1) + torch.arange(runs, device=tokens.device).unsqueeze(1) * table.shape[1]
        x = embedding(rows, table.reshape(-1, table.shape[-1]))
        for number in range(self.size.layers):
            layer = f"model.layers.{number}."
            y = _norm(x, weights[layer + "input_layernorm.weight"])
            x = x + self._attention(y, weights, layer + "self_attn.", batch, context)
            y = _norm(x, weights[layer + "post_attention_layernorm.weight"])
            x = x + self._feed_forward(y, weights, layer + "mlp.")
        return _linear(_norm(x, weights["model.norm.weight"]), weights["lm_head.weight"])

    def _attention(self, y: Tensor, weights: dict[str, Tensor], at: str, batch: int, context: int) -> Tensor:
        runs, head_dim = len(y), self.setting.head_dim
        queries, keys, values = (
            _linear(y, weights[f"{at}{kind}_proj.weight"]).view(runs * batch, context, -1, head_dim).transpose(1, 2)
            for kind in "qkv"
        )
        scores = self._rotated(queries) @ self._rotated(keys).transpose(-1, -2) * head_dim**-0.5 + self.mask
        mixed = (torch.softmax(scores, -1) @ values).transpose(1, 2).reshape(runs, batch * context, -1)
        return _linear(mixed, weights[at + "o_proj.weight"])

    def _rotated(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        return x * self.cosine + torch.cat((-second, first), -1) * self.sine

    def _feed_forward(self, y: Tensor, weights: dict[str, Tensor], at: str) -> Tensor:
        if isinstance(self.size, Sparse):
            return self._experts(y, weights, at, self.size)
        gate, up = (_linear(y, weights[f"{at}{kind}_proj.weight"]) for kind in ("gate", "up"))
        return _linear(silu(gate) * up, weights[at + "down_proj.weight"])

    def _experts(self, y: Tensor, weights: dict[str, Tensor], at: str, size: Sparse) -> Tensor:
        """All experts are computed, and those that a token does not take count nothing."""
        scores = torch.softmax(_linear(y, weights[at + "gate.weight"]).float(), -1)
        taken, which = scores.topk(size.experts // 2, -1)
        shares = torch.zeros_like(scores).scatter(-1, which, taken / taken.sum(-1, keepdim=True))
        first, second = weights[at + "experts.gate_up_proj"], weights[at + "experts.down_proj"]
        both = _linear(y, first.flatten(1, 2)).unflatten(-1, (size.experts, 2, size.features))
        inner = silu(both[..., 0, :]) * both[..., 1, :] * shares.unsqueeze(-1)
        return _linear(inner.flatten(-2), second.transpose(1, 2).flatten(2))

    def losses(self, flat: Tensor, windows: Tensor) -> Tensor:
        """Mean loss per symbol of each run: ``[runs]``."""
        with torch.autocast(windows.device.type, torch.bfloat16, enabled=self.setting.bfloat16):
            logits = self.logits(flat, windows[:, :, :-1])
        each = cross_entropy(logits.float().flatten(0, 1), windows[:, :, 1:].reshape(-1), reduction="none")
        return each.view(len(windows), -1).mean(1)


def _norm(x: Tensor, gain: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPSILON_OF_NORMS) * gain.unsqueeze(1)


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    return torch.bmm(x, weight.transpose(1, 2))


class Settings(NamedTuple):
    """Of the optimizer for each weight, ``[1, weights]`` each: factors on the learning rate of its update and of its
    decay, epsilon, and the step at which its state began."""

    rate: Tensor
    decay: Tensor
    epsilon: Tensor
    born: Tensor


def adamw(moments: Moments, gradient: Tensor, lr: Tensor, settings: Settings, age: Tensor) -> Moments:
    """One step of AdamW behind clipping by the global norm, for each run. ``lr``: ``[runs, 1]``; ``age``: the steps
    that a weight has had with this one, ``[1, weights]``."""
    weights, first, second = moments
    norm = gradient.pow(2).sum(1, keepdim=True).sqrt()
    gradient = gradient * (CLIP / (norm + 1e-6)).clamp(max=1.0)
    first = first + (gradient - first) * (1 - BETAS[0])
    second = second * BETAS[1] + gradient * gradient * (1 - BETAS[1])
    seen = [-torch.expm1(age * math.log(beta)) for beta in BETAS]  # 1 - beta ** age
    update = settings.rate * (first / seen[0]) / ((second / seen[1]).sqrt() + settings.epsilon)
    return Moments(weights * (1 - lr * DECAY * settings.decay) - lr * update, first, second)


@cache
def program(size: Size, setting: Setting) -> Program:
    return Program(size, setting)


def flat_of(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])
