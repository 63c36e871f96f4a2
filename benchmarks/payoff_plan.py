"""Sizes, recipes and arms of `payoff.py`, and the arithmetic of equal FLOPs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Of a Llama; it has feed-forward layers of 8/3 the width."""

    width: int
    layers: int = 2

    @property
    def features(self) -> int:
        return 8 * round(self.width / 3)

    @property
    def feed_forward(self) -> int:
        """Weights of a layer's feed-forward matrices that a token passes through."""
        return 3 * self.width * self.features

    def __str__(self) -> str:
        return f"{self.width}x{self.layers}"


@dataclass(frozen=True)
class Sparse(Size):
    """Of a Mixtral: each token takes half of the experts, which have 4/3 of the width."""

    experts: int = 4

    @property
    def features(self) -> int:
        return 4 * round(self.width / 3)

    @property
    def feed_forward(self) -> int:
        return self.experts // 2 * 3 * self.width * self.features + self.experts * self.width

    def __str__(self) -> str:
        return f"{self.width}x{self.layers} with {self.experts} experts"


@dataclass(frozen=True)
class Setting:
    """What all arms have in common. ``steps`` of the size ``unit`` are the FLOPs of horizon 1; ``choose`` and
    ``report`` are held-out windows of each author; ``decay`` is the share of its FLOPs over which an arm's rate falls
    to 0."""

    unit: Size = Size(48)
    steps: int = 2000
    head_dim: int = 12
    context: int = 64
    batch: int = 8
    symbols: int = 96
    warmup: int = 100
    decay: float = 0.25
    choose: int = 80
    report: int = 400
    device: str = "cpu"
    bfloat16: bool = False
    compiled: bool = True

    @property
    def tokens_per_step(self) -> int:
        return self.batch * self.context

    def flops_per_token(self, size: Size) -> int:
        """Of a training step: 6 N + 12 layers * context * width, with N the weights of all matrices that a token
        passes through but the input embedding (PaLM, arXiv 2204.02311, appendix B, without the half that a causal
        kernel may save)."""
        layer = 4 * size.width**2 + size.feed_forward
        return 6 * (size.layers * layer + self.symbols * size.width) + 12 * size.layers * self.context * size.width

    def flops_per_step(self, size: Size) -> int:
        return self.tokens_per_step * self.flops_per_token(size)

    @property
    def flops(self) -> int:
        """Of horizon 1."""
        return self.steps * self.flops_per_step(self.unit)


@dataclass(frozen=True)
class Recipe:
    """How a model grows. ``symmetry``, ``moments`` and ``hyper`` are growth's own. ``louder``: factor on how far the
    weights then are from those of equal copies; not what growth does, whose noise small weights limit.
    ``new_rate``: factor on the updates of new coordinates. ``copied``: new layers are plain copies. ``insert``: where
    new layers stand. ``shrink``: not what growth does, but that times the small weights, padded with zeros, plus
    initial weights of the large model (Mallik et al., arXiv 2605.13405)."""

    symmetry: str = "none"
    moments: str = "preserve"
    hyper: str = "keep"
    louder: float = 1.0
    new_rate: float = 1.0
    copied: bool = False
    insert: str = "even"
    shrink: float | None = None


RECIPES = {
    "noise:1": Recipe("noise:1"),
    "noise:0.1": Recipe("noise:0.1"),
    "noise:0.5": Recipe("noise:0.5"),
    "noise:2": Recipe("noise:2"),
    "noise:3": Recipe("noise:3"),
    "noise:1 doubled": Recipe("noise:1", louder=2.0),
    "noise:1 quadrupled": Recipe("noise:1", louder=4.0),
    "split:1/8:varied": Recipe("split:1/8:varied"),
    "noise:1, rates preserved": Recipe("noise:1", hyper="preserve"),
    "noise:1, moments fresh": Recipe("noise:1", moments="fresh"),
    "noise:1, moments reset": Recipe("noise:1", moments="reset"),
    "none, fresh moments, new x1.3": Recipe("none", "fresh", new_rate=1.3),
    "zero-padded x0.4, perturbed": Recipe(shrink=0.4),
    "exact layers": Recipe(),
    "copied layers": Recipe(copied=True),
    "exact layers, at the end": Recipe(insert="end"),
    "copied layers, at the end": Recipe(copied=True, insert="end"),
    "exact layers, stacked": Recipe(insert="stack"),
    "copied layers, stacked": Recipe(copied=True, insert="stack"),
    "exact layers, at the start": Recipe(insert="start"),
    "noise:1, exact layers": Recipe("noise:1"),
    "noise:2, exact layers": Recipe("noise:2"),
    "noise:2, exact layers, stacked": Recipe("noise:2", insert="stack"),
    "noise:1, more experts": Recipe("noise:1"),
}


@dataclass(frozen=True)
class Pair:
    """A comparison: an axis of growth, its factor, and the two sizes."""

    axis: str
    factor: float
    small: Size
    large: Size


@dataclass(frozen=True)
class Arm:
    """Runs of a comparison that differ in seed and rate alone. ``name``: ``scratch``, ``small`` or ``grown``; the
    first two also ``at equal tokens``. ``rate``: the sweep that chose its learning rate, or of a sweep itself the
    rates of its runs. ``grown_at``: the share of the steps after which it grows; of a reference at equal tokens, the
    growth that it is the reference of. ``also``: other comparisons that the same runs belong to, and by which name."""

    pair: Pair
    name: str
    rate: str | tuple[float, ...]
    recipe: str = ""
    grown_at: float | None = None
    horizon: float = 1.0
    schedule: str = "wsd"
    seeds: tuple[int, ...] = tuple(range(8))
    wide_factors: tuple[float, ...] = ()
    sweep: str = ""
    note: str = ""
    raised: float = 1.0
    also: tuple[tuple[Pair, str], ...] = ()
    stacked: tuple[int, ...] = tuple(range(8))
    """The seeds of the stack that an arm with other rates after the growth takes its runs from."""

    @property
    def grows(self) -> bool:
        return self.name == "grown"

    @property
    def size(self) -> Size:
        """At the start."""
        return self.pair.large if self.name.startswith("scratch") else self.pair.small

    @property
    def job(self) -> str:
        sizes = f"{self.size} to {self.pair.large}" if self.grows else str(self.size)
        growth = (
            f"{self.recipe} at {self.grown_at:g}" if self.grows else f"for {self.grown_at:g}" if self.grown_at else ""
        )
        parts = [f"{self.pair.axis} x{self.pair.factor:g}", self.name, sizes, growth, f"horizon {self.horizon:g}"]
        parts += [
            self.schedule if self.schedule != "wsd" else "",
            "wide rate" if len(set(self.wide_factors)) > 1 else "",
        ]
        parts += [f"sweep {self.sweep}" if self.sweep else "", f"seeds {min(self.seeds)}-{max(self.seeds)}"]
        return ", ".join(part for part in [*parts, self.note] if part)


@dataclass(frozen=True)
class Steps:
    """Of an arm: before the growth, after it (flat ones: all before), and how many of them the rate falls."""

    before: int
    after: int
    decay: int

    @property
    def total(self) -> int:
        return self.before + self.after


def steps_of(arm: Arm, setting: Setting) -> Steps:
    """Of equal FLOPs; of a reference at equal tokens, as many as the grown arm has."""
    small, large = (setting.flops_per_step(size) for size in (arm.pair.small, arm.pair.large))
    flops, share = arm.horizon * setting.flops, arm.grown_at
    if share is None:
        total = round(flops / setting.flops_per_step(arm.size))
        return Steps(total, 0, round(setting.decay * total))
    before = round(share * flops / (share * small + (1 - share) * large))
    after = round((flops - before * small) / large)
    if arm.grows:
        return Steps(before, after, min(after, round(setting.decay * flops / large)))
    return Steps(before + after, 0, round(setting.decay * (before + after)))


def schedule_of(arm: Arm, steps: Steps, setting: Setting) -> Callable[[int], float]:
    """Step -> factor on the learning rate: warm-up, constant, linear to 0; or a cosine to 0."""
    total = steps.total

    def wsd(step: int) -> float:
        return min(1.0, (step + 1) / setting.warmup, (total - step) / max(1, steps.decay))

    def cosine(step: int) -> float:
        return min(1.0, (step + 1) / setting.warmup) * (1 + math.cos(math.pi * step / total)) / 2

    return {"wsd": wsd, "cosine": cosine}[arm.schedule]


def branch_of(arm: Arm, steps: Steps) -> int:
    """The step at which an arm leaves its trunk, the run of constant rate; a reference of lowered rate at half of its
    steps. A cosine has none."""
    if arm.schedule != "wsd":
        return 0
    if arm.grows:
        return steps.before
    return steps.total // 2 if arm.wide_factors else steps.total - steps.decay


def marks_of(setting: Setting, size: Size, flops: float, step: int, until: int) -> set[int]:
    """The steps up to ``until`` at which the loss is taken: whenever FLOPs reach a power of sqrt(2) of horizon 1."""
    grid = (setting.flops * 2 ** (exponent / 2) for exponent in range(-12, 8))
    reached = {
        step + math.ceil((point - flops) / setting.flops_per_step(size) - 1e-9) for point in grid if point > flops
    }
    return {mark for mark in reached if mark <= until}
