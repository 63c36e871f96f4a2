"""How far logits move with more experts, in float32 and in bfloat16.

    python benchmarks/experts.py

Random models of four layers and eight experts, of which a token takes two, read 256 random tokens. They are
given twice the experts, with and without noise, and finer ones of half and of a third of the size. Printed: the
largest difference of a logit from the small model's, and whether greedy generation gives the same tokens. For
bfloat16 the RMS of the difference, beside that of the small model from itself in float32: there a rounding can
make a router take another expert, in either model."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

import growth
from growth.text import Table

COUNT, SIZE = 8, 96
SIZES = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 4, "head_dim": 16}
REST = {"vocab_size": 101, "num_experts_per_tok": 2, "num_local_experts": COUNT, "num_experts": COUNT}
FAMILIES = {"Mixtral": "mixtral", "Qwen3-MoE": "qwen3_moe", "OLMoE": "olmoe", "GPT-OSS": "gpt_oss"}
CHOICES: dict[str, dict[str, Any]] = {
    "x2": {"experts": 2 * COUNT, "symmetry": "none"},
    "x2, noise 1": {"experts": 2 * COUNT, "noise": 1.0},
    "x2, half the size": {"symmetry": "none", "experts": 2 * COUNT, "expert_size": SIZE // 2},
    "x3, a third of the size": {"symmetry": "none", "experts": 3 * COUNT, "expert_size": SIZE // 3},
}


def small_model(model_type: str) -> PreTrainedModel:
    """A causal model with experts, in float32, with weights as loud as trained ones."""
    known = AutoConfig.for_model(model_type).to_dict()
    given = {**SIZES, **REST, "intermediate_size": SIZE, "moe_intermediate_size": SIZE}
    config = AutoConfig.for_model(model_type, **{name: value for name, value in given.items() if name in known})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, min(weight.shape[-2:]) ** -0.5)
    model.generation_config.pad_token_id, model.generation_config.eos_token_id = 0, None
    return model.eval()


def tokens() -> Tensor:
    return torch.randint(3, 101, (4, 64), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def logits(model: Any) -> Tensor:
    found: Tensor = model(tokens()).logits.float()
    return found


def generated(model: Any) -> list[list[int]]:
    found: list[list[int]] = model.generate(tokens()[:2, :8], max_new_tokens=24, do_sample=False).tolist()
    return found


def measured(model_type: str) -> tuple[dict[str, tuple[float, bool]], tuple[float, float]]:
    """Choice -> (largest difference of a logit in float32, whether the same tokens are generated); and in
    bfloat16 the RMS difference of the small model from itself in float32, and of twice the experts from that."""
    model = small_model(model_type)
    before, said = logits(model), generated(model)
    found = {}
    for name, choices in CHOICES.items():
        grown = growth.widen(model, **choices).model
        found[name] = float((logits(grown) - before).abs().max()), generated(grown) == said
    low = copy.deepcopy(model).to(torch.bfloat16)
    full = copy.deepcopy(low).to(torch.float32)
    more = growth.widen(low, **CHOICES["x2"]).model
    pairs = ((logits(low), logits(full)), (logits(more), logits(low)))
    own, grown_by = (float((one - other).square().mean().sqrt()) for one, other in pairs)
    return found, (own, grown_by)


def main() -> None:
    """Print a row for each family."""
    rows = []
    for name, model_type in FAMILIES.items():
        found, (own, grown_by) = measured(model_type)
        cells = [f"{largest:.1e}{'' if same else ' (other tokens)'}" for largest, same in found.values()]
        rows.append((name, *cells, f"{own:.4f}", f"{grown_by:.4f}"))
    print(Table(("float32, largest", *CHOICES, "bfloat16, small RMS", "bfloat16, x2 RMS"), rows))


if __name__ == "__main__":
    main()
