"""The jobs of `payoff.py`: arms and the trunks that they branch from, what is ready to run, and running it."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from payoff_growth import grow
from payoff_model import Moments
from payoff_plan import RECIPES, Arm, Setting, Size, branch_of, marks_of, schedule_of, steps_of
from payoff_stack import Stack
from payoff_text import Corpus, read_corpus
from transformers import logging

Record = dict[str, Any]


@dataclass(frozen=True)
class Trunk:
    """Runs at a constant rate up to a step; arms branch off."""

    size: Size
    lrs: tuple[float, ...]
    seeds: tuple[int, ...]
    step: int

    @property
    def job(self) -> str:
        rates = " ".join(f"{rate:g}" for rate in dict.fromkeys(self.lrs))
        return f"trunk, {self.size}, rate {rates}, step {self.step}, seeds {min(self.seeds)}-{max(self.seeds)}"

    def path(self, work: Path, setting: Setting) -> Path:
        key = hashlib.sha256(repr((self.size, self.lrs, self.seeds, setting)).encode()).hexdigest()[:12]
        return work / f"{str(self.size).replace(' ', '-')}-{key}" / f"{self.step}.pt"


@dataclass(frozen=True)
class Branch:
    """An arm whose rates are known, and the trunk that it starts from, if any."""

    arm: Arm
    lrs: tuple[float, ...]
    trunk: Trunk | None

    @property
    def job(self) -> str:
        return self.arm.job


def chosen_rate(records: Iterable[Record], sweep: str) -> float | None:
    """The rate of the lowest loss on the half that chooses, the mean over a sweep's seeds; none before it was run."""
    losses: dict[float, list[float]] = {}
    for record in records:
        if record.get("sweep") == sweep:
            losses.setdefault(record["lr"], []).append(record["choose"])
    return min(losses, key=lambda rate: fmean(losses[rate])) if losses else None


def branches(plan: Sequence[Arm], records: Sequence[Record], setting: Setting) -> list[Branch]:
    """The arms not yet run whose rates are known."""
    done, found = {record["job"] for record in records}, []
    unfinished = {arm.sweep for arm in plan if arm.job not in done}
    for arm in plan:
        rates: Any = arm.rate
        if isinstance(rates, str):
            rate = None if rates in unfinished else chosen_rate(records, rates)
            rates = None if rate is None else (float(f"{rate * arm.raised:.3g}"),) * len(arm.seeds)
        if arm.job not in done and rates is not None:
            step = branch_of(arm, steps_of(arm, setting))
            trunk = Trunk(arm.size, rates, arm.seeds, step) if step else None
            if trunk and arm.wide_factors:  # another stack holds the same seeds once
                trunk = Trunk(arm.size, rates[:1] * len(arm.stacked), arm.stacked, step)
            found.append(Branch(arm, rates, trunk))
    return found


def ready(
    plan: Sequence[Arm], records: Sequence[Record], setting: Setting, work: Path, running: Iterable[str] = ()
) -> list[Trunk | Branch]:
    """Jobs that can start now, the most urgent first: arms whose trunk is there, and the next piece of a trunk that is
    not."""
    waiting, busy, jobs = branches(plan, records, setting), set(running), list[Trunk | Branch]()
    recorded = {record["job"] for record in records}
    steps: dict[Path, set[int]] = {}
    for branch in waiting:
        if branch.trunk:
            steps.setdefault(branch.trunk.path(work, setting).parent, set()).add(branch.trunk.step)
    for branch in waiting:
        trunk = branch.trunk
        if trunk is None:
            jobs.append(branch)
            continue
        pieces = [replace(trunk, step=step) for step in sorted(steps[trunk.path(work, setting).parent])]
        missing = [one for one in pieces if not (one.job in recorded and one.path(work, setting).exists())]
        jobs.append(branch if trunk not in missing else missing[0])
    unique = {job.job: job for job in jobs if job.job not in busy}
    return list(unique.values())


def save(stack: Stack, path: Path) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    content = {"moments": tuple(stack.moments), "step": stack.step, "flops": stack.flops, "seconds": stack.seconds}
    torch.save(content | {"curves": stack.curves}, partial)
    partial.replace(path)


def begin(trunk: Trunk, setting: Setting, work: Path, stored: bool = True) -> Stack:
    """The stack at the latest step up to the trunk's that is stored, or at its start."""
    stack = Stack.new(trunk.size, setting, trunk.seeds, trunk.lrs)
    folder = trunk.path(work, setting).parent
    steps = [int(path.stem) for path in folder.glob("*.pt")] if stored else []
    if earlier := [step for step in steps if step <= trunk.step]:
        content = torch.load(folder / f"{max(earlier)}.pt", map_location=setting.device)
        stack.moments = Moments(*content["moments"])
        stack.step, stack.flops, stack.seconds = content["step"], content["flops"], content["seconds"]
        stack.curves = content["curves"]
    return stack


@cache
def corpus_of(folder: Path, setting: Setting) -> Corpus:
    return read_corpus(folder, setting.context, setting.choose, setting.report)


def execute(job: Trunk | Branch, setting: Setting, text: Path, work: Path) -> list[Record]:
    """Run a job; one record for each run."""
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("high")
    logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    corpus = corpus_of(text, setting)
    return _trunk(job, setting, corpus, work) if isinstance(job, Trunk) else _branch(job, setting, corpus, work)


def _advance(stack: Stack, until: int, arm_schedule: Any, corpus: Corpus, more: Sequence[int] = ()) -> None:
    marks = marks_of(stack.setting, stack.size, stack.flops, stack.step, until)
    stack.train(until, arm_schedule, corpus, marks | set(more))


def _trunk(trunk: Trunk, setting: Setting, corpus: Corpus, work: Path) -> list[Record]:
    stack = begin(trunk, setting, work)
    _advance(stack, trunk.step, lambda step: min(1.0, (step + 1) / setting.warmup), corpus, [trunk.step])
    save(stack, trunk.path(work, setting))
    label = {"job": trunk.job, "axis": "", "factor": 1.0, "arm": "trunk"}
    common = {"recipe": "", "symmetry": "", "size": str(trunk.size), "horizon": None, "grown_at": None}
    return _records(stack, corpus, [label], common | {"schedule": "constant", "decay_steps": 0})


def _branch(branch: Branch, setting: Setting, corpus: Corpus, work: Path) -> list[Record]:
    arm, steps = branch.arm, steps_of(branch.arm, setting)
    schedule = schedule_of(arm, steps, setting)
    if branch.trunk:
        stack = begin(branch.trunk, setting, work)
    else:
        stack = begin(Trunk(arm.size, branch.lrs, arm.seeds, 0), setting, work, stored=False)
    if arm.wide_factors:
        stack = _selected(stack, arm.seeds)
    jumps, paid = [0.0] * len(arm.seeds), 0.0
    if arm.grows:
        if stack.step < steps.before:
            _advance(stack, steps.before, schedule, corpus, [steps.before])
        before, paid = stack.score(corpus.choose), stack.flops
        stack = grow(stack, arm.pair.large, RECIPES[arm.recipe])
        jumps = [after - loss for after, loss in zip(stack.score(corpus.choose), before, strict=True)]
    factors = arm.wide_factors or (1.0,) * len(arm.seeds)
    stack.lrs = stack.lrs * torch.tensor(factors, device=setting.device).unsqueeze(1)
    falls = [steps.total - steps.decay, steps.total - steps.decay // 2] if arm.schedule == "wsd" else []
    _advance(stack, steps.total, schedule, corpus, [*falls, steps.total])
    recipe = RECIPES.get(arm.recipe)
    common = {
        "recipe": arm.recipe,
        "symmetry": "" if recipe is None else "zero-padded" if recipe.shrink is not None else recipe.symmetry,
        "size": str(arm.size),
        "horizon": arm.horizon,
        "grown_at": arm.grown_at,
        "schedule": arm.schedule,
        "flops_before": round(paid),
        "decay_steps": steps.decay,
    } | ({"sweep": arm.sweep} if arm.sweep else {})
    labels = [
        {"job": arm.job, "axis": pair.axis, "factor": pair.factor, "arm": name}
        | {"small": str(pair.small), "large": str(pair.large)}
        for pair, name in ((arm.pair, arm.name), *arm.also)
    ]
    each = [
        {"lr": rate, "wide_factor": factor, "jump": round(jump, 7)}
        for rate, factor, jump in zip(branch.lrs, factors, jumps, strict=True)
    ]
    return _records(stack, corpus, labels, common, each)


def _selected(stack: Stack, seeds: Sequence[int]) -> Stack:
    """The runs of these seeds, some of them more than once."""
    rows = [stack.seeds.index(seed) for seed in seeds]
    chosen = Stack(
        stack.size,
        stack.setting,
        tuple(seeds),
        stack.lrs[rows],
        Moments(*(buffer[rows] for buffer in stack.moments)),
        stack.settings,
        *(stack.step, stack.flops, stack.seconds),
        [list(stack.curves[row]) for row in rows],
    )
    return chosen


def _records(
    stack: Stack, corpus: Corpus, labels: list[Record], common: Record, each: list[Record] | None = None
) -> list[Record]:
    choose, report = stack.score(corpus.choose), stack.score(corpus.report)
    found = []
    for label in labels:
        for run, seed in enumerate(stack.seeds):
            own = each[run] if each else {"lr": round(float(stack.lrs[run]), 7), "wide_factor": 1.0, "jump": 0.0}
            measured = {
                "seed": seed,
                "steps": stack.step,
                "tokens": stack.tokens,
                "flops": round(stack.flops),
                "cpu_seconds": round(stack.seconds / len(stack.seeds), 2),
                "choose": round(choose[run], 5),
                "report": round(report[run], 5),
                "curve": stack.curves[run],
            }
            found.append(label | common | own | measured)
    return found
