"""The gradients of the first step in new layers, beside those of the old ones.

    python benchmarks/new_layers.py

For each family a small model with random weights as loud as trained ones is given as many new layers as it
has, stacked on its own, and the loss of next-token prediction on random tokens is taken back once.
Printed for old and new blocks: the RMS of the gradient over all weights of a block, the mean over the blocks;
and the largest RMS of any one tensor of a new block, over that of the largest of an old one. Beside it, where
a norm follows what writes the residual stream, the same with the writer silent instead of the norm's gain.

A silent block passes its gradient on to what is silent alone. The other weights of a new block start with a
gradient of zero, and get one as soon as the silent ones have moved."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

import growth
from growth.text import Table

LAYERS, TOKENS = 4, (4, 64)
SIZES = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 128}
FAMILIES = {
    "Llama": ("llama", {}),
    "Gemma 2": ("gemma2", {"num_key_value_heads": 2, "head_dim": 16, "sliding_window": 16}),
    "OLMo 2": ("olmo2", {}),
    "GPT-2": ("gpt2", {}),
}
GAINS = ("post_attention_layernorm.weight", "post_feedforward_layernorm.weight")
WRITERS = ("o_proj.weight", "down_proj.weight")


@dataclass(frozen=True)
class Gradients:
    """The RMS of first gradients.

    Args:
        old, new: of all weights of a block, mean over blocks.
        largest: of one tensor of a new block, over the largest of an old one.
    """

    old: float
    new: float
    largest: float


def small_model(model_type: str, **fields: object) -> PreTrainedModel:
    """A causal model of four layers, in float64, with weights as loud as trained ones."""
    names = AutoConfig.for_model(model_type).attribute_map
    sizes = {names.get(name, name): value for name, value in {**SIZES, "num_hidden_layers": LAYERS}.items()}
    if model_type == "gpt2":
        sizes["n_inner"] = sizes.pop("intermediate_size")
    config = AutoConfig.for_model(model_type, **sizes, **fields, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float64)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "emb" not in name and "wte" not in name and "wpe" not in name:
                weight.normal_(0, min(weight.shape) ** -0.5)
            elif weight.ndim == 1:
                weight.add_(0.1 * torch.randn_like(weight))
    return model.eval()


def naively(model: PreTrainedModel, new: frozenset[int]) -> None:
    """Make the writers of new layers silent instead of the norms that follow them."""
    state = dict(model.named_parameters())
    with torch.no_grad():
        for name, weight in state.items():
            number = next((int(part) for part in name.split(".") if part.isdigit()), -1)
            if number in new and name.endswith(GAINS):
                weight.copy_(state[name.replace(f".{number}.", f".{number - 1}.")])
            if number in new and name.endswith(WRITERS):
                weight.zero_()


def first_gradients(model: PreTrainedModel, new: frozenset[int]) -> Gradients:
    """Those of a deeper model, on random tokens.

    Args:
        model: it.
        new: the numbers of its new layers.
    """
    tokens = torch.randint(3, SIZES["vocab_size"], TOKENS, generator=torch.Generator().manual_seed(1))
    model.zero_grad()
    model(input_ids=tokens, labels=tokens).loss.backward()
    blocks: dict[int, list[Tensor]] = {}
    for name, weight in model.named_parameters():
        number = next((int(part) for part in name.split(".") if part.isdigit()), None)
        if number is not None and weight.grad is not None:
            blocks.setdefault(number, []).append(weight.grad)
    rms = {
        number: float(torch.cat([grad.flatten() for grad in grads]).square().mean().sqrt())
        for number, grads in blocks.items()
    }
    most = {number: max(float(grad.square().mean().sqrt()) for grad in grads) for number, grads in blocks.items()}
    return Gradients(
        mean(value for number, value in rms.items() if number not in new),
        mean(value for number, value in rms.items() if number in new),
        max(value for number, value in most.items() if number in new)
        / max(value for number, value in most.items() if number not in new),
    )


def measured(model_type: str, *, naive: bool = False, **fields: object) -> Gradients | None:
    """The gradients of a family with twice as many layers; None if the naive way is the right one."""
    model = small_model(model_type, **fields)
    grown = growth.widen(model, layers=2 * LAYERS)
    new = frozenset(range(1, 2 * LAYERS, 2))
    names = [name for name, _ in grown.model.named_parameters()]
    if naive and not any(name.endswith(GAINS[1]) for name in names):
        return None
    if naive:
        naively(grown.model, new)
    return first_gradients(grown.model, new)


def rows() -> list[tuple[str, ...]]:
    found = []
    for name, (model_type, fields) in FAMILIES.items():
        right, wrong = measured(model_type, **fields), measured(model_type, naive=True, **fields)
        assert right is not None
        found.append(
            (
                name,
                f"{right.old:.1e}",
                f"{right.new:.1e}",
                f"{right.new / right.old:.2f}",
                f"{right.largest:.2f}",
                f"{wrong.new / wrong.old:.2g}" if wrong else "-",
                f"{wrong.largest:.2g}" if wrong else "-",
            )
        )
    return found


def main() -> None:
    head = (
        "family",
        "old block",
        "new block",
        "new / old",
        "largest tensor",
        "writer silent: new / old",
        "largest tensor",
    )
    print(Table(head, rows(), right=(1, 2, 3, 4, 5, 6)))


if __name__ == "__main__":
    main()
