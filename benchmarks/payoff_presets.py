"""What `payoff.py` runs: the arms of each preset as a table, in order of priority, before anything is run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from payoff_plan import Arm, Pair, Setting, Size, Sparse

SWEPT = (0.00283, 0.004, 0.00566, 0.008, 0.0113)
"""Learning rates, a factor of sqrt(2) apart."""
LOWER = (0.002, 0.00283)
PADDED = "zero-padded x0.4, perturbed"


def sweep(arm: Arm, name: str, rates: tuple[float, ...]) -> Arm:
    """Two seeds of their own at each rate, in one stack."""
    return replace(
        arm, rate=tuple(rate for rate in rates for _ in range(2)), seeds=(100, 101) * len(rates), sweep=name
    )


def equal_tokens(arm: Arm, share: float) -> Arm:
    """The reference with as many tokens as the arm that grows at ``share``."""
    return replace(arm, name=f"{arm.name} at equal tokens", grown_at=share, also=())


def later_seeds(arm: Arm) -> Arm:
    later = tuple(range(8, 16))
    return replace(arm, seeds=later, stacked=later)


def slower(arm: Arm, factor: float) -> Arm:
    """At a lower rate after the growth; a reference from the middle of its steps on."""
    return replace(arm, wide_factors=(factor,) * len(arm.seeds), note=f"rate x{factor:g}")


def wide_rates(arm: Arm) -> Arm:
    """Four seeds each at a lower and a higher rate after the growth."""
    return replace(arm, seeds=(0, 1, 2, 3) * 2, wide_factors=(0.71,) * 4 + (1.41,) * 4)


WIDTH = Pair("width", 2.0, Size(24), Size(48))
DEPTH = Pair("depth", 2.0, Size(24), Size(24, 4))
DEEP = Pair("depth", 2.0, Size(24, 4), Size(24, 8))
DEEPEST = Pair("depth", 2.0, Size(24, 6), Size(24, 12))
LESS = Pair("width", 1.5, Size(24), Size(36))
MORE = Pair("width", 4.0, Size(12), Size(48))
BOTH = Pair("both", 2.0, Size(24), Size(48, 4))
EXPERTS = Pair("experts", 2.0, Sparse(24, experts=4), Sparse(24, experts=8))


def cpu_plan() -> list[Arm]:
    """In order of priority."""
    scratch = Arm(WIDTH, "scratch", "scratch, width", also=((MORE, "scratch"),))
    small = Arm(WIDTH, "small", "small", also=((DEPTH, "small"), (LESS, "small"), (BOTH, "small")))
    grown = Arm(WIDTH, "grown", "grown, width", "noise:1", 0.5)
    quarter = replace(grown, grown_at=0.25)
    deep = Arm(DEPTH, "scratch", "scratch, depth")
    deeper = Arm(DEPTH, "grown", "grown, depth", "exact layers", 0.5)
    copied, sooner = replace(deeper, recipe="copied layers"), replace(deeper, grown_at=0.25)
    plan = [
        sweep(scratch, "scratch, width", SWEPT[:4]),
        sweep(grown, "grown, width", SWEPT[1:]),
        sweep(small, "small", SWEPT[1:]),
        replace(sweep(small, "small", LOWER), note="lower rates"),
        scratch,
        grown,
        small,
        quarter,
        later_seeds(scratch),
        equal_tokens(scratch, 0.5),
        equal_tokens(small, 0.5),
    ]
    first, later = ("noise:1 doubled", "none, fresh moments, new x1.3"), ("noise:0.5", "noise:0.1", "split:1/8:varied")
    plan += [replace(grown, recipe=recipe) for recipe in first]
    plan += [
        sweep(deep, "scratch, depth", SWEPT[:4]),
        sweep(deeper, "grown, depth", SWEPT[1:]),
        deep,
        copied,
        deeper,
        later_seeds(deep),
    ]
    plan += [replace(arm, horizon=0.5) for arm in (scratch, small, quarter, grown, deep, copied, deeper)]
    plan += [wide_rates(grown), wide_rates(deeper)]
    louder = replace(grown, recipe="noise:1 doubled")
    plan += [
        replace(grown, recipe=recipe) for recipe in (*later, "noise:1, rates preserved", PADDED, "noise:1 quadrupled")
    ]
    plan += [replace(arm, horizon=0.5) for arm in (louder, slower(copied, 0.71), slower(copied, 0.5))]
    plan += [slower(copied, 0.71), slower(louder, 0.71), replace(louder, grown_at=0.25)]
    plan += [slower(replace(arm, horizon=horizon), 0.71) for horizon in (1.0, 0.5) for arm in (deep, small)]
    plan += [replace(arm, horizon=4.0) for arm in (scratch, small, louder)]
    plan += [*both(1.0), *experts(), *(replace(grown, grown_at=share) for share in (0.1, 0.75)), *other_factors()]
    plan += [
        replace(arm, recipe=recipe) for recipe, arm in (("noise:2", grown), ("noise:3", grown), ("noise:2", quarter))
    ]
    plan += cosines(scratch, grown, replace(small, also=()))
    plan += [replace(arm, horizon=4.0) for arm in (deep, copied)]
    plan += [sooner, equal_tokens(deep, 0.5), equal_tokens(replace(small, pair=DEPTH), 0.5)]
    for share in (0.1, 0.25, 0.75):
        plan += [equal_tokens(scratch, share), equal_tokens(small, share)]
    plan += [*both(2.0), replace(small, horizon=2.0, also=((DEPTH, "small"), (BOTH, "small")))]
    plan += [replace(arm, horizon=4.0) for arm in (deeper, grown, quarter)]
    plan += [*more_layers(deep, deeper), *placements(deeper)]
    wide_and_deep = Arm(BOTH, "grown", "grown, width", "noise:2, exact layers", 0.5)
    stacked = replace(wide_and_deep, recipe="noise:2, exact layers, stacked")
    plan += [wide_and_deep, stacked, replace(stacked, horizon=2.0)]
    plan += [later_seeds(replace(arm, horizon=0.5)) for arm in (deep, small, deeper, copied, slower(copied, 0.71))]
    again = [slower(deep, 0.71), *(replace(deeper, recipe=f"{kind} layers, stacked") for kind in ("exact", "copied"))]
    plan += [later_seeds(replace(arm, horizon=horizon)) for horizon in (0.5, 1.0) for arm in again]
    sooner = replace(deeper, recipe="copied layers, stacked", grown_at=0.25)
    plan += [sooner, slower(sooner, 0.71), later_seeds(sooner), later_seeds(slower(sooner, 0.71))]
    plan += [slower(scratch, 0.71)]
    plan += [replace(grown, recipe=f"noise:1, moments {moments}") for moments in ("fresh", "reset")]
    plan += [replace(grown, recipe="noise:2", horizon=horizon) for horizon in (0.5, 4.0)]
    more = (next(experts()), Arm(EXPERTS, "small", "small"), Arm(BOTH, "scratch", "scratch, width"))
    return [*plan, *(equal_tokens(arm, 0.5) for arm in (*more, replace(small, pair=BOTH)))]


def other_factors() -> Iterable[Arm]:
    """x1.5, whose large model is the middle-sized flat one of x2; and x4, with the large model of x2."""
    yield Arm(LESS, "scratch", "scratch, width", also=((WIDTH, "middle"),))
    yield Arm(LESS, "grown", "grown, width", "noise:1", 0.5)
    yield Arm(MORE, "grown", "grown, width", "noise:1", 0.5)
    yield Arm(MORE, "small", "grown, width")


def placements(deeper: Arm) -> Iterable[Arm]:
    """New layers in one block, not spread between the old ones: behind the last one, as copies of it or of all of
    them, and before the first."""

    def at(kind: str, place: str) -> Arm:
        return replace(deeper, recipe=f"{kind} layers, {place}")

    behind = [at(kind, place) for kind in ("exact", "copied") for place in ("at the end", "stacked")]
    yield from (replace(arm, horizon=horizon) for horizon in (1.0, 0.5) for arm in behind)
    yield from (slower(arm, 0.71) for arm in behind)
    yield from (replace(at("exact", place), grown_at=0.25) for place in ("at the end", "stacked"))
    yield at("exact", "at the start")
    yield from (replace(at(kind, "stacked"), horizon=4.0) for kind in ("exact", "copied"))


def more_layers(deep: Arm, deeper: Arm) -> Iterable[Arm]:
    """Where layers stand, from 4 to 8 of them and from 6 to 12; from 4, the small one is the large one of depth x2."""
    yield replace(deep, pair=DEEP)
    places = ("", ", at the end", ", stacked")
    for kind, pair in (("exact", DEEP), ("copied", DEEP), ("exact", DEEPEST)):
        yield from (replace(deeper, pair=pair, recipe=f"{kind} layers{place}") for place in places)


def both(horizon: float) -> Iterable[Arm]:
    yield Arm(BOTH, "scratch", "scratch, width", horizon=horizon)
    yield Arm(BOTH, "grown", "grown, width", "noise:1, exact layers", 0.5, horizon=horizon)


def experts() -> Iterable[Arm]:
    """Twice as many experts, of which twice as many are taken; at the rates of depth, whose models are as wide."""
    grown = Arm(EXPERTS, "grown", "grown, depth", "noise:1, more experts", 0.5)
    yield from (Arm(EXPERTS, "scratch", "scratch, depth"), Arm(EXPERTS, "small", "small"), grown)


def cosines(*arms: Arm) -> Iterable[Arm]:
    """At the rates of the other schedule, raised by a step of the grid: a cosine's mean is half of its peak."""
    for arm in arms:
        yield replace(arm, schedule="cosine", raised=1.41)


GPU = Setting(Size(256, 4), steps=1100, head_dim=64, context=256, batch=16, device="cuda", bfloat16=True)
"""At most two epochs: the small model trained on takes 3800 steps of 4096 bytes."""
GPU_RATES = (0.001, 0.00141, 0.002, 0.00283, 0.004)


def gpu_plan() -> list[Arm]:
    """Width 128 to 256 and 4 to 8 layers at horizon 1, in order of priority."""
    width, depth = Pair("width", 2.0, Size(128, 4), Size(256, 4)), Pair("depth", 2.0, Size(128, 4), Size(128, 8))
    scratch, deep = Arm(width, "scratch", "scratch, width"), Arm(depth, "scratch", "scratch, depth")
    small = Arm(width, "small", "small", also=((depth, "small"),))
    grown = Arm(width, "grown", "grown, width", "noise:1", 0.5)
    deeper = Arm(depth, "grown", "grown, depth", "exact layers", 0.5)
    return [
        sweep(scratch, "scratch, width", GPU_RATES[:4]),
        sweep(grown, "grown, width", GPU_RATES[1:]),
        sweep(small, "small", GPU_RATES[1:]),
        *(scratch, grown, small, replace(grown, grown_at=0.25), later_seeds(scratch)),
        sweep(deep, "scratch, depth", GPU_RATES[:4]),
        sweep(deeper, "grown, depth", GPU_RATES[1:]),
        *(deep, replace(deeper, recipe="copied layers"), deeper, later_seeds(deep)),
        *(replace(grown, recipe="noise:2"), equal_tokens(scratch, 0.5), equal_tokens(small, 0.5)),
    ]


PRESETS = {"cpu": (Setting(), cpu_plan), "gpu": (GPU, gpu_plan)}
"""Name -> what arms have in common, and the arms."""
