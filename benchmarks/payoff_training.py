"""The training runs of `payoff.py`: text, batches, and a model in training that can grow."""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import AutoTokenizer, LlamaForCausalLM

import growth
from growth.training.clipping import clip_factor
from growth.training.warmup import fresh_warmup

ASSETS = Path(growth.__file__).parent / "assets"
BETAS, DECAY, CLIP = (0.9, 0.95), 0.1, 1.0


@dataclass(frozen=True)
class Corpus:
    """Tokens to train on, and held-out windows of context + 1: those that choose the learning rate,
    those that are reported."""

    train: Tensor
    choosing: Tensor
    reported: Tensor


def read_corpus(path: Path, context: int, windows: int) -> Corpus:
    """The text in tokens of the embedded model; at most ``windows`` held-out windows of either
    kind, evenly spread."""
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "austen-llama")
    tokens = torch.tensor(tokenizer.encode(path.read_text(encoding="utf-8")))
    cut = len(tokens) * 9 // 10
    held = tokens[cut:].unfold(0, context + 1, context)
    if len(held) < 2:
        raise SystemExit(
            f"{path} leaves {len(tokens) - cut} tokens to hold out, less than two windows of {context + 1}. Use a "
            "longer text."
        )
    held = held[torch.linspace(0, len(held) - 1, min(len(held), 2 * windows)).long()]
    return Corpus(tokens[:cut], held[0::2].contiguous(), held[1::2].contiguous())


def schedule(step: int, warmup: int, steps: int) -> float:
    """Linear warm-up, then a cosine to 0 after ``steps``."""
    return min(1.0, (step + 1) / max(1, warmup)) * (1 + math.cos(math.pi * min(1.0, step / steps))) / 2


class Trainer:
    """A model in training on the batches of one seed, from the step at which it stands.

    Args:
        model: to train, in place.
        lr: highest learning rate.
        steps: of the whole schedule.
        args: batch, context, warm-up, device and the like.
    """

    def __init__(self, model: LlamaForCausalLM, lr: float, steps: int, args: argparse.Namespace) -> None:
        self.args, self.taken, self.seconds, self.clip = args, 0, 0.0, CLIP
        self.model = model.to(args.device)
        groups = [[p for p in model.parameters() if (p.ndim > 1) is matrix] for matrix in (True, False)]
        self.optimizer: Optimizer = AdamW(
            [
                {"params": group, "weight_decay": DECAY if first else 0.0}
                for first, group in zip((True, False), groups, strict=True)
            ],
            lr=lr,
            betas=BETAS,
        )
        self.scheduler: LRScheduler = LambdaLR(self.optimizer, partial(schedule, warmup=args.warmup, steps=steps))

    def grown(self, arm: str, seed: int) -> Trainer:
        """The same training, gone on with a wider model as SYMMETRY,MOMENTS,HYPER says. This one is
        not touched."""
        new = copy.copy(self)
        symmetry, moments, hyper = arm.split(",")
        choices: dict[str, Any] = {
            "width": self.args.width,
            "symmetry": symmetry,
            "seed": seed,
            "moments": moments,
            "hyper": hyper,
        }
        grown = growth.widen(self.model, optimizer=self.optimizer, scheduler=self.scheduler, **choices)
        assert grown.optimizer is not None and grown.scheduler is not None
        new.model, new.optimizer, new.scheduler = grown.model, grown.optimizer, grown.scheduler
        if hyper == "preserve":  # of the gradients of the last step, which are still there
            new.clip *= clip_factor(
                grown, {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}
            )
        if self.args.fresh_warmup:
            fresh_warmup(grown, self.args.fresh_warmup)
        return new

    def train(self, batches: Iterator[Tensor], steps: int) -> None:
        began = time.monotonic()
        forward = torch.compile(self.model, dynamic=False) if self.args.compile else self.model
        self.model.train()
        for _, windows in zip(range(steps), batches, strict=False):
            self.optimizer.zero_grad()
            self._loss(forward, windows).backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
            self.optimizer.step()
            self.scheduler.step()
            self.taken += 1
        self.seconds += time.monotonic() - began

    @torch.no_grad()
    def score(self, windows: Tensor) -> float:
        """Mean loss over held-out windows."""
        self.model.eval()
        parts = windows.split(self.args.batch)
        return sum(float(self._loss(self.model, part)) * len(part) for part in parts) / len(windows)

    def _loss(self, forward: Any, windows: Tensor) -> Tensor:
        windows = windows.to(self.args.device)
        kind = torch.device(self.args.device).type
        with torch.autocast(kind, torch.bfloat16) if self.args.bfloat16 else nullcontext():
            logits = forward(input_ids=windows[:, :-1], use_cache=False).logits
        return cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())


def batches(corpus: Corpus, seed: int, skip: int, args: argparse.Namespace) -> Iterator[Tensor]:
    """Random windows, the same for every arm of a seed; those of the first ``skip`` steps are left
    out."""
    generator = torch.Generator().manual_seed(seed)
    for step in range(10**9):
        starts = torch.randint(len(corpus.train) - args.context, (args.batch, 1), generator=generator)
        if step >= skip:
            yield corpus.train[starts + torch.arange(args.context + 1)]
