"""Small models of every family that has experts, and what is asked of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch

import growth
from growth import architectures
from growth.extension.experts import expert_size, experts_of
from growth.hf.configs import Config
from growth.hf.model_classes import class_of
from growth.hf.tensor_names import to_disk
from growth.proof.miniature import build_exact, loud
from support.family_cases import cases, small_config

FAMILIES = ("deepseek_v2", "deepseek_v3", "gpt_oss", "granitemoe", "mixtral", "olmoe", "qwen2_moe", "qwen3_moe")
CHOICES: dict[str, Callable[[int], dict[str, Any]]] = {
    "twice as many": lambda count: {"experts": 2 * count},
    "three times as many": lambda count: {"experts": 3 * count, "noise": 1},
    "finer": lambda count: {"experts": 2 * count, "expert_size": 12},
    "finer and more": lambda count: {"experts": 6 * count, "expert_size": 8, "noise": 0.5},
    "twice as wide": lambda count: {"experts": 2 * count, "width": 2, "noise": 0.4},
    "finer, 1.5 times as wide": lambda count: {"experts": 2 * count, "width": 1.5, "expert_size": 18},
    "layers and a head of its own": lambda count: {"experts": 2 * count, "layers": 4, "insert": "end", "untie": True},
}


@cache
def with_experts() -> dict[str, tuple[dict[str, Any], int]]:
    """Family and number of its branch -> a small config with experts of size 24, and how many there are."""
    found: dict[str, tuple[dict[str, Any], int]] = {}
    for model_type, model_class, branch in cases():
        if model_type in FAMILIES and model_class.endswith("ForCausalLM"):
            raw = small_config(model_type, model_class, branch)
            architecture = architectures.find(model_type).at(Config(raw).parsed)
            raw[architecture.sizes[expert_size(architecture.sizes)].field] = 24
            held = experts_of(Config(raw), architecture, class_of(raw))
            assert held is not None
            found[f"{model_type} {sum(name.startswith(f'{model_type} ') for name in found)}"] = raw, held.count
    return found


def expert_plan(name: str, choice: str) -> growth.Plan:
    raw, count = with_experts()[name]
    asked = CHOICES[choice](count)
    if "untie" in asked:
        raw = {**raw, "tie_word_embeddings": True}
    return growth.plan_widening(raw, **asked)


def expert_model(family: str, **changes: Any) -> Any:
    model = build_exact({**with_experts()[f"{family} 0"][0], "output_router_logits": True, **changes})
    loud(model, 1)
    return model.train()


def expert_step(model: Any, optimizer: torch.optim.Optimizer) -> tuple[float, Mapping[str, torch.Tensor]]:
    """The loss before a step, balance included, and its gradients by their names on disk."""
    ids = torch.randint(3, 41, (3, 9), generator=torch.Generator().manual_seed(0))
    optimizer.zero_grad()
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    found = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    gradients = to_disk(model, found)
    optimizer.step()
    return loss.item(), gradients
