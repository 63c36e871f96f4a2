"""Many runs of one model in training at once, for `payoff.py`. Eight runs of a small model take little longer than
two."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

import torch
from payoff_model import EPSILON, Moments, Program, Settings, build, flat_of, program
from payoff_plan import Setting, Size
from payoff_text import Batches, Corpus
from torch import Tensor
from transformers import PreTrainedModel

EVALUATED_AT_ONCE = 16


@dataclass
class Stack:
    """Runs in training. ``curves``: for each run [tokens, FLOPs, loss] of the half that chooses; ``seconds``: CPU time
    of the whole stack (on a GPU: seconds on the clock)."""

    size: Size
    setting: Setting
    seeds: tuple[int, ...]
    lrs: Tensor
    moments: Moments
    settings: Settings
    step: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    curves: list[list[list[float]]] = field(default_factory=list)

    @classmethod
    def new(cls, size: Size, setting: Setting, seeds: Sequence[int], lrs: Sequence[float]) -> Stack:
        """Initial weights of transformers' own class, by each run's seed."""
        config = program(size, setting).config
        buffers = []
        for seed in seeds:
            torch.manual_seed(seed)
            buffers.append(flat_of(build(config).parameters()))
        weights = torch.stack(buffers).to(setting.device)
        rates = torch.tensor(lrs, dtype=torch.float32, device=setting.device).unsqueeze(1)
        empty = Moments(weights, torch.zeros_like(weights), torch.zeros_like(weights))
        one, curves = torch.ones_like(weights[:1]), [list[list[float]]() for _ in seeds]
        settings = Settings(one, program(size, setting).decayed, EPSILON * one, torch.zeros_like(one))
        return cls(size, setting, tuple(seeds), rates, empty, settings, curves=curves)

    @property
    def program(self) -> Program:
        return program(self.size, self.setting)

    @property
    def tokens(self) -> int:
        return self.step * self.setting.tokens_per_step

    def copy(self) -> Stack:
        """Nothing is shared that training changes."""
        moments = Moments(*(buffer.clone() for buffer in self.moments))
        return replace(self, moments=moments, curves=[list(curve) for curve in self.curves])

    def train(
        self, until: int, schedule: Callable[[int], float], corpus: Corpus, marks: Collection[int] = ()
    ) -> Stack:
        """Go on to step ``until``; the losses at the steps in ``marks`` go into the curves."""
        batches = Batches(corpus.train, self.seeds, self.setting.context, self.setting.batch)
        self._warm(batches)
        begun = _clock(self.setting)
        while self.step < until:
            gradient = self._gradient(batches.at(self.step).to(self.setting.device))
            rate = self.lrs * schedule(self.step)
            self.step += 1
            self.moments = self._stepped(gradient, rate)
            self.flops += self.setting.flops_per_step(self.size)
            if self.step in marks:
                spent = _clock(self.setting) - begun
                self.mark(corpus)
                begun, self.seconds = _clock(self.setting), self.seconds + spent
        self.seconds += _clock(self.setting) - begun
        return self

    def _gradient(self, windows: Tensor) -> Tensor:
        weights = self.moments.weights.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self.program.trained_losses(weights, windows).sum(), weights)
        return gradient

    @torch.no_grad()
    def _stepped(self, gradient: Tensor, lr: Tensor) -> Moments:
        age = (self.step - self.settings.born).clamp(min=1.0)
        return Moments(*self.program.step(self.moments, gradient, lr, self.settings, age))

    def _warm(self, batches: Batches) -> None:
        """Compile before the clock starts: what the second step is given may differ in kind from the first's."""
        probe, windows = self.copy(), batches.at(self.step).to(self.setting.device)
        for _ in range(3):
            probe.moments = probe._stepped(probe._gradient(windows), probe.lrs * 1.0)

    def mark(self, corpus: Corpus) -> None:
        for curve, loss in zip(self.curves, self.score(corpus.choose), strict=True):
            curve.append([self.tokens, round(self.flops), round(loss, 4)])

    @torch.no_grad()
    def score(self, windows: Tensor) -> list[float]:
        """Mean loss of each run over held-out windows ``[windows, context + 1]``."""
        total = torch.zeros(len(self.seeds), dtype=torch.float64)
        for part in windows.to(self.setting.device).split(EVALUATED_AT_ONCE):
            losses = self.program.losses(self.moments.weights, part.expand(len(self.seeds), -1, -1))
            total += losses.double().cpu() * len(part)
        return [float(value) for value in total / len(windows)]

    def model(self, run: int) -> PreTrainedModel:
        """One run as transformers' own model, on the CPU."""
        model = build(self.program.config)
        with torch.no_grad():
            for weight, part in zip(model.parameters(), self.parts(self.moments.weights[run]), strict=True):
                weight.copy_(part.view_as(weight))
        return model

    def parts(self, flat: Tensor) -> tuple[Tensor, ...]:
        return flat.cpu().split(self.program.counts)


def _clock(setting: Setting) -> float:
    if setting.device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()
