"""Registered modules for tests: the two of notebooks/own_architecture.ipynb, run from the notebook, and
`Odd`, which has every feature that makes a module hard to handle."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from growth.algebra.derived_laws import Dual
from growth.algebra.laws import Linear
from growth.algebra.norm_laws import LayerNorm
from growth.algebra.roles import Keeps
from growth.architectures.architecture import Architecture
from growth.architectures.sizes import standard_sizes
from growth.rules.attention import ATTENDED, KEYS, QUERIES, VALUES, attention_laws, attention_scale
from growth.rules.embedding import embedding
from growth.rules.feed_forward import FFN_LAWS, feed_forward
from growth.rules.linear import linear
from growth.rules.norm import FINAL, NORMED, RESIDUAL, norm

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "own_architecture.ipynb"


def run_defining_cells() -> Any:
    """A Python module made of the cells tagged ``defines``. Running them registers both models."""
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    source = "\n".join("".join(cell["source"]) for cell in cells if "defines" in cell["metadata"].get("tags", ()))
    module = ModuleType("own_architecture")
    exec(compile(source, str(NOTEBOOK), "exec", dont_inherit=True), vars(module))
    return module


@dataclasses.dataclass
class OddConfig:
    """Unusual field names, a tuple, a computed field, and two (``max_length``, ``top_k``) that a
    transformers config treats as settings of generation and drops."""

    n_vocab: int = 37
    block_size: int = 13
    n_embd: int = 20
    n_head: int = 4
    n_layer: int = 2
    max_length: int = 5
    top_k: int = 3
    betas: tuple[float, ...] = (0.9, 0.95)
    activation: str = "gelu"
    head_size: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.head_size = self.n_embd // self.n_head


class OddOutput(NamedTuple):
    """Two of the lists hold tensors: only ``hidden_states`` is declared as an output."""

    logits: Tensor
    loss: Tensor | None
    hidden_states: list[Tensor]
    attentions: list[Tensor]


class OddBlock(nn.Module):
    """Fused queries, keys and values; a mask with -inf; buffers of three dtypes."""

    def __init__(self, config: OddConfig) -> None:
        super().__init__()
        self.heads = config.n_head
        self.before, self.between = nn.LayerNorm(config.n_embd), nn.LayerNorm(config.n_embd)
        self.qkv, self.out = nn.Linear(config.n_embd, 3 * config.n_embd), nn.Linear(config.n_embd, config.n_embd)
        self.up, self.down = nn.Linear(config.n_embd, 4 * config.n_embd), nn.Linear(4 * config.n_embd, config.n_embd)
        self.gradient_checkpointing = False
        self.register_buffer("future", torch.full((config.block_size, config.block_size), -torch.inf).triu(1))
        self.register_buffer("causal", torch.ones(config.block_size, config.block_size, dtype=torch.bool).tril())
        self.register_buffer("steps", torch.tensor(7))

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.before(x)).chunk(3, -1)
        )
        scores = q @ k.mT / math.sqrt(q.shape[-1]) + self.future[: x.shape[1], : x.shape[1]]
        if mask is not None:
            scores = scores.masked_fill(mask[:, None, None] == 0, -torch.inf)
        attention = scores.softmax(-1)
        x = x + self.out((attention @ v).transpose(1, 2).flatten(-2))
        return x + self.down(F.gelu(self.up(self.between(x)))), attention


class Odd(nn.Module):
    """A tied head, learned positions that end at ``block_size``, a named tuple as output."""

    def __init__(self, config: OddConfig) -> None:
        super().__init__()
        assert isinstance(config.betas, tuple)
        self.config = config
        self.tokens, self.positions = (
            nn.Embedding(config.n_vocab, config.n_embd),
            nn.Embedding(config.block_size, config.n_embd),
        )
        self.blocks = nn.ModuleList(OddBlock(config) for _ in range(config.n_layer))
        self.last = nn.LayerNorm(config.n_embd)
        self.head = nn.Linear(config.n_embd, config.n_vocab, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor, targets: Tensor | None = None, attention_mask: Tensor | None = None) -> OddOutput:
        assert ids.shape[1] <= self.config.block_size
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        states, attentions = [x], []
        for block in self.blocks:
            x, attention = block(x, attention_mask)
            states.append(x)
            attentions.append(attention)
        states[-1] = self.last(x)
        return OddOutput(self.head(states[-1]), None, states, attentions)


ODD = Architecture(
    model_type="odd",
    module_class=Odd,
    config_class=OddConfig,
    modules={
        "tokens": embedding(RESIDUAL),
        "positions": embedding(RESIDUAL),
        "blocks.*.before": norm(RESIDUAL, NORMED),
        "blocks.*.qkv": linear(NORMED, QUERIES + KEYS + VALUES),
        "blocks.*.out": linear(ATTENDED, RESIDUAL),
        "blocks.*.between": norm(RESIDUAL, NORMED),
        **feed_forward(("blocks.*.up",), "blocks.*.down", reads=NORMED, writes=RESIDUAL),
        "blocks.*": {"future": (Keeps(), Keeps()), "causal": (Keeps(), Keeps()), "steps": ()},
        "last": norm(RESIDUAL, FINAL),
        "head": linear(FINAL),
    },
    laws={RESIDUAL: LayerNorm(), NORMED: Linear(), FINAL: Dual(RESIDUAL), **FFN_LAWS, **attention_laws()},
    outputs={"hidden_states": RESIDUAL, "last_hidden_state": FINAL},
    epsilon=1e-5,
    sizes=standard_sizes("n_embd", "n_inner", "n_head", "n_kv_head", "head_size", intermediate_ratio=4),
    constants={"attention_scale": attention_scale},
    vouched=dict.fromkeys(("n_vocab", "block_size", "betas")),
    twin=lambda config, layers: {"n_vocab": 41, "block_size": 40, "n_layer": layers},
)
