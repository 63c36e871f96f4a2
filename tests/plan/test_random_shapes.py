"""Any shape, drawn at random: it is grown exactly, or refused with the nearest shape that works,
which is then grown exactly.

Shapes are drawn for the small config of a family and named size by size, as a caller names them, so
that all that a caller meets is tried: the search, the laws, the config, the refusal. The twin then
takes that shape as it takes the shape of any model. Since the twin of a small config is the config
itself, it has the very sizes that were drawn; both are checked. Sizes handed to the twin alone
would leave out the search, and a pair of models built by hand the way from a shape to its twin."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Mapping
from math import ceil
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from growth import architectures
from growth.architectures.architecture import Architecture
from growth.architectures.choosable import choosable_sizes, has_field
from growth.architectures.sizes import Sizes
from growth.errors import IllegalGrowthError
from growth.hf.configs import parse
from growth.plan.build import plan_config
from growth.plan.options import KEEP, chosen
from growth.plan.target_sizes import sizes_in_ratio
from growth.proof.twin import twin_report
from support.families import exact, nearest_shape
from support.family_cases import ALL, MAIN, is_refused, label, small_config

exactly = pytest.fixture(exact, autouse=True)

Branch = dict[str, Any]

MOST = 2.6
"""Up to how many times as large a size is drawn."""
FAIR = 0.1
"""At least so many of the shapes are grown: a test in which everything is refused proves
nothing."""
EVERY_BRANCH = [case for case in ALL if case[1] in {main[1] for main in MAIN}]
QUIET = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large)


def dividing(old: Sizes, name: str, drawn: Mapping[str, int]) -> list[int]:
    """Values of a size that go with those drawn before it, from the smallest on."""
    n, (group, dot, part) = old[name], name.rpartition(".")
    values = sorted({*range(n, ceil(MOST * n) + 1), 2 * n, 3 * n})
    if part == "num_attention_heads":
        return [value for value in values if value % old.get(f"{group}{dot}num_key_value_heads", 1) == 0]
    heads = {
        other: h for other, h in drawn.items() if other.endswith("num_attention_heads") and other.startswith(group)
    }
    if part == "hidden_size":  # heads no narrower than they are; just as wide first, if there are any
        divided = [
            v
            for v in values
            if all(v % h == 0 and v // h >= n // old[other] for other, h in heads.items() if n % old[other] == 0)
        ]
        return sorted(divided, key=lambda value: any(value * old[other] != n * h for other, h in heads.items()))
    if part == "num_key_value_heads":
        return [v for v in values if all(h % v == 0 and h // v >= old[other] // n for other, h in heads.items())]
    return [drawn[other] for other in drawn if old[other] == n and other not in heads] or [2 * n, 3 * n]


@st.composite
def choices(draw: st.DrawFn, architecture: Architecture, config: Any, old: Sizes) -> dict[str, Any]:
    """Sizes by name, some of them left to follow or to stay, and the other choices. Half of the
    draws have sizes that divide, in the other half they come as they come."""
    free = sorted(
        choosable_sizes(architecture.sizes, config), key=lambda name: not name.endswith("num_attention_heads")
    )  # what others divide by
    wild = draw(st.booleans(), label="as they come")
    drawn: dict[str, int] = {}
    named: dict[str, int | str] = {}
    for name in free:
        size, n = architecture.sizes[name], old[name]
        ways = ["dividing", "kept"] + (["multiple", "anywhere", "unnamed"] if wild else [])
        if name.endswith("intermediate_size"):
            ways = ["anywhere", "multiple", "kept", "unnamed"]
        if (
            size.grows == "head-dim"
        ):  # named beside hidden_size where the two are one, it would contradict it more often than not
            apart = has_field(config, size) or not any("hidden_size" in n for n in named)
            ways = ["unnamed"] + (["kept", "multiple"] if apart else []) + (["anywhere"] if apart and wild else [])
        way = draw(st.sampled_from(ways), label=f"how {name} grows")
        value = n
        if way == "multiple":
            value = n * draw(st.sampled_from([2, 3]))
        elif way == "dividing" and (values := dividing(old, name, drawn)):
            value = draw(st.sampled_from(values))
        elif way in ("anywhere", "dividing"):
            value = draw(st.integers(n + 1, ceil(MOST * n)))
        drawn[name] = value
        if way != "unnamed":
            named[name] = KEEP if way == "kept" else value
    if not any(value not in (KEEP, old[name]) for name, value in named.items()):
        named[free[-1]] = 2 * old[free[-1]]
    return {
        "sizes": named,
        "attention": draw(st.sampled_from(["heads", "head-dim"])),
        "scaling": draw(st.sampled_from(["unit", "unit", "unit", "orthogonal"])),
        "symmetry": draw(st.sampled_from(["noise:0.3", "none", "split:2/1"])),
        "seed": draw(st.integers(0, 3)),
    }


def grow(raw: Mapping[str, Any], choice: Mapping[str, Any]) -> None:
    """Grow a small config: exactly, and to the sizes that are named.

    Raises:
        IllegalGrowthError: where such a growth is refused.
    """
    options = chosen(choice)  # type: ignore[arg-type]
    plan = plan_config(raw, options)
    old, new = plan.old_sizes, plan.new_sizes
    assert all(new[name] == (old[name] if value == KEEP else value) for name, value in options.sizes.items())
    extended = plan.extended_sizes
    if extended != new:
        config, ratio = parse(plan.extended), (extended, new)
        assert sizes_in_ratio(plan.architecture.sizes, config, extended, ratio, lambda sizes: None)[0].sizes == new
    report = twin_report(raw, options, in_ratio_of=(extended, new), extension=plan.extension)
    assert (report.sizes == old or plan.extension is not None) and report.scale > 1e-3
    assert report.ok, f"{report.difference:.3g} off: {dict(old)} -> {dict(new)}"


def is_legal(raw: Mapping[str, Any], choice: Mapping[str, Any]) -> bool:
    """Whether a drawn shape is grown; otherwise the shape that the refusal names is. One that names
    none must be what the declaration refuses, for more heads or for wider ones."""
    try:
        grow(raw, choice)
        return True
    except IllegalGrowthError as refusal:
        nearest = nearest_shape(refusal)
        if not nearest:
            refused = any(is_refused(raw, {**choice, "attention": way, "width": 3}) for way in ("heads", "head-dim"))
            assert refused or re.search("None was found|equal groups only|one head already", str(refusal)), refusal
            return False
    grow(raw, {**choice, "sizes": nearest})
    return False


def drawn(model_type: str, model_class: str, branch: Branch, examples: int, *phases: Phase) -> Counter[bool]:
    """How many of some random shapes were grown, and how many refused. The first is no random one:
    the feed-forward layers alone are half as wide again, which is always legal."""
    raw = small_config(model_type, model_class, branch)
    config = parse(raw)
    architecture = architectures.find(model_type).at(config)
    old = architecture.read_sizes(config)
    inner = [name for name in choosable_sizes(architecture.sizes, config) if name.endswith("intermediate_size")]
    counted: Counter[bool] = Counter()

    @seed(zlib.crc32(f"{model_class} {branch}".encode()))
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=QUIET, phases=phases)
    @given(choices(architecture, config, old))
    def holds(choice: dict[str, Any]) -> None:
        counted[is_legal(raw, choice)] += 1

    if inner:
        grow(raw, {"sizes": {name: old[name] * 3 // 2 for name in inner}, "symmetry": "noise:0.3"})
        counted[True] += 1
    holds()
    return counted


@pytest.mark.parametrize(("model_type", "model_class", "branch"), MAIN[::4], ids=label)
def test_random_shapes(model_type: str, model_class: str, branch: Branch) -> None:
    counted = drawn(model_type, model_class, branch, 2, Phase.generate)
    assert counted[True], "nothing was grown"


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "model_class", "branch"), EVERY_BRANCH, ids=label)
def test_many_random_shapes(model_type: str, model_class: str, branch: Branch) -> None:
    counted = drawn(model_type, model_class, branch, 25, Phase.generate, Phase.shrink)
    assert counted[True] >= FAIR * counted.total(), counted
