"""Training a small model and what it grew to on the same batches, in exact arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler
from transformers import PreTrainedModel

from growth.proof.inputs import random_inputs
from growth.proof.miniature import build_exact, loud
from support.families import VOCABULARY
from support.family_cases import small_config

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
MakeScheduler = Callable[[Optimizer], LRScheduler]
SAME = 1e-9
"""Largest relative difference between losses of what trains alike. Measured: 1e-11 at most."""
BEFORE, AFTER = 20, 30
"""Steps before growth and after it."""
LOGITS = ("logits", "prediction_logits", "start_logits", "logits_per_text", "text_embeds", "image_embeds")
"""What a loss is taken of: the first that a class returns, as wide after growth as before."""

adamw: MakeOptimizer = lambda parameters: torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.3, eps=1e-4)  # noqa: E731
cosine: MakeScheduler = lambda optimizer: CosineAnnealingLR(optimizer, BEFORE + AFTER + 10)  # noqa: E731


def batch_loss(model: Any, number: int) -> Tensor:
    """Of random targets, on one of four batches, so that something can be learned. In eval mode:
    without dropout."""
    outputs = model(**random_inputs(model, VOCABULARY, length=7, seed=number % 4))
    logits = next(outputs[name] for name in LOGITS if name in outputs)
    targets = torch.randint(logits.shape[-1], logits.shape[:-1], generator=torch.Generator().manual_seed(number % 4))
    return cross_entropy(logits.flatten(0, -2), targets.flatten())


def train(model: Any, optimizer: Optimizer, scheduler: LRScheduler | None, steps: int) -> list[float]:
    """The loss before each step."""
    losses = []
    for number in range(steps):
        loss = batch_loss(model, number)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        losses.append(loss.item())
    return losses


def trained(
    model_type: str,
    model_class: str,
    branch: dict[str, Any] | None = None,
    *,
    tied: bool | None = None,
    optimizer: MakeOptimizer = adamw,
    scheduler: MakeScheduler = cosine,
    steps: int = BEFORE,
) -> tuple[PreTrainedModel, Optimizer, LRScheduler]:
    """A tiny model of a class after some steps of training."""
    model = build_exact(small_config(model_type, model_class, branch or {}, tied))
    loud(model, 1)
    made = optimizer(model.parameters())
    schedule = scheduler(made)
    train(model, made, schedule, steps)
    return model, made, schedule


def parting(small: tuple[Any, Any, Any], wide: tuple[Any, Any, Any], steps: int = AFTER) -> float:
    """max |difference| / |loss| over the next steps of both. The loss must have moved."""
    before, after = train(*small, steps), train(*wide, steps)
    assert max(before) - min(before) > 0.01 * abs(before[0]), "nothing was learned"
    return max(abs(one - other) / abs(one) for one, other in zip(before, after, strict=True))
