"""Equal copies stay equal however long the model trains, so the wide model remains the narrow one.
Breaking the symmetry ends that, and leaves the function as it is when training starts.

*Equal to the last bit* needs care. A kernel adds up two columns of a matrix product in the same
order only if they have the same place in its tiles, which are 8, 16, 24, 32 or 48 wide. (With 32
features in float64 and tiles of 24, copies are 1e-17 apart after one step.) So sizes are multiples
of 96, and one thread computes.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

import growth
from growth.proof.float64 import exact_arithmetic
from support.threads import one_thread

__all__ = ["one_thread"]  # a fixture for every test here

N, HIDDEN, VOCABULARY = 96, 192, 16
"""hidden_size, intermediate_size and vocab_size; the first two of the narrow model."""


@pytest.fixture(scope="module")
def narrow() -> LlamaForCausalLM:
    config = LlamaConfig(
        hidden_size=N,
        intermediate_size=HIDDEN,
        num_attention_heads=4,
        num_hidden_layers=2,
        vocab_size=VOCABULARY,
        max_position_embeddings=32,
        initializer_range=0.1,
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config).to(torch.float64)  # type: ignore[arg-type]


def batch(step: int) -> Tensor:
    """Random tokens of uneven frequency, which the model can learn."""
    return (torch.rand(4, 16, generator=torch.Generator().manual_seed(step)) ** 4 * VOCABULARY).long()


def loss(model: LlamaForCausalLM, step: int) -> Tensor:
    """Cross-entropy of the next token. That of transformers is computed in float32."""
    ids = batch(step)
    return cross_entropy(model(input_ids=ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def trained(narrow: LlamaForCausalLM, symmetry: str, steps: int = 50) -> tuple[LlamaForCausalLM, float, float]:
    """(the wide model after some steps of AdamW, its first loss, the narrow model's first loss)."""
    wide = growth.widen(narrow, width=2, symmetry=symmetry).model
    with exact_arithmetic():  # the class computes its norms in float32
        before, first = loss(narrow, 0).item(), loss(wide, 0).item()
    optimizer = torch.optim.AdamW(wide.parameters(), lr=3e-3, weight_decay=0.1)
    for step in range(steps):
        optimizer.zero_grad()
        loss(wide, step).backward()
        optimizer.step()
    assert loss(wide, 0).item() < first - 0.3, "nothing was learned"
    return wide, first, before


def pairs(model: LlamaForCausalLM) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(name, one half, the other half) of every parameter along every dimension that grew."""
    for name, value in model.named_parameters():
        for axis, size in enumerate(value.shape):
            if size != VOCABULARY:
                yield f"{name} {axis}", *value.detach().chunk(2, axis)


def test_equal_copies_stay_equal_to_the_last_bit(narrow: LlamaForCausalLM) -> None:
    wide, first, before = trained(narrow, "none")
    assert abs(first - before) <= 1e-12 * before
    together = list(pairs(wide))
    assert len(together) == 1 + 2 * 16 + 1 + 1
    assert not [name for name, one, other in together if not torch.equal(one, other)]


@pytest.mark.parametrize("symmetry", ["noise:0.1", "split:1/2", "split:varied"])
def test_copies_that_differ_drift_apart(narrow: LlamaForCausalLM, symmetry: str) -> None:
    wide, first, before = trained(narrow, symmetry)
    assert abs(first - before) <= 1e-12 * before
    moved = {name: float((one - other).norm() / one.norm()) for name, one, other in pairs(wide) if "norm" not in name}
    assert min(moved.values()) > 0.02, moved
