"""How many wrong coefficients the twin lets pass: every family, every kind of parameter, every dimension that
grows, by every choice that the declaration accepts, made wrong one at a time.

    python benchmarks/false_passes.py                     all families, about half an hour
    python benchmarks/false_passes.py llama bert gpt2     some

Three ways: one coefficient of one dimension times 1.1, all of a parameter times 1.1, a dimension laid out in
another order (rolled by one). A wrong weight passes if the outputs differ by no more than the twin's tolerance. Of
those that pass, some compute the same function, for a reason that is listed
(tests/architectures/test_declared_parameters.py); any other is a false pass, and the exit code is then 1. And each
law: one copy's write made wrong, with the read that undoes it."""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import numpy as np
import torch
import transformers
from architectures.test_declared_parameters import FIRST, UNSEEN, invisible
from torch import Tensor

from growth import architectures
from growth.algebra.axes import Space
from growth.algebra.derived_laws import Normalised
from growth.algebra.laws import Copied, Growth, Law, Linear
from growth.algebra.maps import Map
from growth.algebra.norm_laws import LayerNorm, RMSNorm
from growth.algebra.roles import Reads, Writes
from growth.errors import FOREIGN_ERRORS, GrowthError
from growth.hf.configs import parse
from growth.hf.tensor_names import from_disk, to_disk
from growth.plan.build import plan_config
from growth.plan.declared import Declared
from growth.plan.plan import TOLERANCE, Plan
from growth.proof.float64 import exact_arithmetic
from growth.proof.inputs import random_inputs
from growth.proof.miniature import VOCABULARY, build_exact, loud
from growth.proof.outputs import forward, largest_difference
from growth.proof.twin import LENGTHS, twin_report
from growth.weights.grow import grow_tensor
from support.family_cases import Choice, as_choice, is_refused, planned, small_config

WRONG = 1.1
SAME = {
    **UNSEEN,
    r"^esm\.\S*key\.weight dimension 0 rolled": "the slot beside has the same frequency, and its query is a copy",
    r"^esm\.\S*inv_freq scaled in 0 at \d*[13579]$": "the frequency of a slot whose key starts at zero",
    r"^roformer\.\S*embed_positions\.weight scaled in 1 at \d*[13579]$": "a slot whose key, or whose reader, is zero",
    r"^smollm3: \S*layers\.0\.self_attn\.k_proj\.weight dimension 0 rolled": "it has no rotary positions, and the "
    "query of the slot beside is a copy",
}
"""Pattern of a mutant, or of one behind its model type and a colon -> why it computes the same."""
CHOICES: list[Choice] = [
    as_choice({"width": width, "attention": attention, "scaling": scaling})
    for width, attention in ((2, "heads"), (2, "head-dim"), (2, "pairs"), (1.5, "heads"))
    for scaling in ("unit", "orthogonal")
]


@dataclass(frozen=True)
class Mutant:
    """One wrong weight.

    Args:
        name: of the tensor.
        what: is wrong with it.
        value: the wrong one.
        source: what the small model's tensor would be, were the same wrong there; None for another layout.
    """

    name: str
    what: str
    value: Tensor
    source: Tensor | None = None


def mutants(plan: Plan, state: dict[str, Tensor], weights: dict[str, Tensor], rng: Random) -> Iterator[Mutant]:
    """Once per kind of parameter, layer numbers aside. Coefficients of 0, and those of coordinates that nothing
    reads yet, are left out: 1.1 times them is the same function."""
    seen = set()
    for name, tensor in plan.tensors.items():
        kind = re.sub(r"\d+", "*", tensor.canonical)
        if kind in seen:
            continue
        seen.add(kind)
        yield Mutant(name, "scaled", state[name] * WRONG, weights[name] * WRONG)
        for axis, dimension in enumerate(tensor.dimensions):
            if not dimension.grows:
                continue
            if not invisible(tensor):
                yield Mutant(name, f"dimension {axis} rolled", state[name].roll(1, axis))
            if len(active := np.flatnonzero(dimension.active)):
                coordinate = int(rng.choice(active.tolist()))
                wrong, source = state[name].clone(), weights[name].clone()
                wrong.select(axis, coordinate).mul_(WRONG)
                source.select(axis, int(dimension.source[coordinate])).mul_(WRONG)
                yield Mutant(name, f"scaled in {axis} at {coordinate}", wrong, source)


def weights_made_wrong(raw: dict[str, Any], choice: Choice, seed: int) -> Iterator[tuple[str, str]]:
    """(mutant, ``seen``, or ``""``, or why it computes the same) of one class by one choice."""
    small = build_exact(raw)
    loud(small, 1)
    held = to_disk(small, small.state_dict())
    weights = {name: value.detach().clone() for name, value in held.items()}
    _, plan = planned(raw, choice)
    wide = build_exact(plan.new)
    state = {name: grow_tensor(weights[name], plan.tensors[name]) for name in plan.tensors}
    inputs = [random_inputs(small, VOCABULARY, length=length) for length in LENGTHS]
    expected = [forward(small, each) for each in inputs]
    shared = {name: [other for other in state if held[other].data_ptr() == held[name].data_ptr()] for name in state}

    def difference(changed: dict[str, Tensor]) -> float:
        wide.load_state_dict(from_disk(wide, {**state, **changed}), strict=False)
        after = [forward(wide, each) for each in inputs]
        found = [largest_difference(old, new, plan) for old, new in zip(expected, after, strict=True)]
        return max(found, key=lambda value: (value != value, value))

    def same_in_the_source(mutant: Mutant) -> bool:
        changed = dict.fromkeys(shared[mutant.name], mutant.source)
        small.load_state_dict(from_disk(small, {**weights, **changed}), strict=False)
        after = [forward(small, each) for each in inputs]
        small.load_state_dict(from_disk(small, weights), strict=False)
        pairs = [(old[name], new[name]) for old, new in zip(expected, after, strict=True) for name in old]
        return all(float((old - new).abs().max()) <= TOLERANCE for old, new in pairs)

    if not difference({}) <= TOLERANCE:
        raise AssertionError(f"{raw['architectures']} {choice}: the right weights differ")
    for mutant in mutants(plan, state, weights, Random(seed)):
        what = f"{mutant.name} {mutant.what}"
        if not difference(dict.fromkeys(shared[mutant.name], mutant.value)) <= TOLERANCE:
            yield what, "seen"
        elif mutant.source is not None and same_in_the_source(mutant):
            yield what, "nothing that the small model returns depends on this weight either"
        else:
            called = (what, f"{raw['model_type']}: {what}")
            yield (
                what,
                next((why for pattern, why in SAME.items() if any(re.search(pattern, one) for one in called)), ""),
            )


@dataclass(frozen=True)
class OneCopyWrong(Law):
    """A law whose first repeated coordinate is written too loud, and read so much less."""

    law: Law

    def grow(self, g: Growth) -> Map:
        right = self.law.grow(g)
        return one_copy_wrong(right) or right

    def follows(self) -> tuple[Any, ...]:
        return self.law.follows()

    def constants(self) -> tuple[str, ...]:
        return self.law.constants()


def one_copy_wrong(right: Map) -> Map | None:
    """The map with one of several copies written louder; None where no coordinate has several."""
    active = (right.write * right.read != 0) & ~right.means
    several = np.bincount(right.source, active, minlength=right.n)[right.source] > 1
    if not (several & active).any():
        return None
    factor = np.ones(right.m)
    factor[np.flatnonzero(several & active)[0]] = WRONG
    return Map(right.n, right.source, right.write * factor, right.read / factor, right.mean)


def laws_made_wrong(raw: dict[str, Any], choice: Choice) -> Iterator[tuple[str, str]]:
    """(law, ``seen``, or ``""``, or why it computes the same) for the law of every space of the class, but for
    `Linear`, which any factor suits, and those that follow another space."""
    _, plan = planned(raw, choice)
    used = {space for tensor in plan.tensors.values() for role in tensor.roles for space in role.spaces()}
    base = architectures.find(raw["model_type"])
    for space, law in plan.architecture.laws.items():
        right = plan.maps.get(space)
        if space not in used or right is None or isinstance(law, Linear) or law.follows() or not one_copy_wrong(right):
            continue
        wrong = Declared(replace(base, laws={**base.laws, space: OneCopyWrong(law)}))
        if not isinstance(wrong.base.at(parse(raw)).laws[space], OneCopyWrong):
            continue  # the config's branch of the declaration has a law of its own
        what, sizes = f"law of '{space}' ({law})", (plan.old_sizes, plan.new_sizes)
        try:
            refused = plan_config(raw, plan.options, wrong).new_sizes != plan.new_sizes  # at these sizes
            passes = not refused and twin_report(raw, plan.options, declared=wrong, in_ratio_of=sizes).ok
        except (GrowthError, *FOREIGN_ERRORS):
            passes = False
        yield what, _why_the_same(plan, space, raw) if passes else "seen"


def _why_the_same(plan: Plan, space: Space, raw: dict[str, Any]) -> str:
    """Why a factor on one copy, undone where it is read, leaves the function as it is; empty if it should not."""
    roles = {role for tensor in plan.tensors.values() for role in tensor.roles if space in role.spaces()}
    law = plan.architecture.laws[space]
    if isinstance(law, Copied) and "relu" in str(raw):
        return "relu lets a positive factor through"
    normed = any(isinstance(other, Normalised) and other.of == space for other in plan.architecture.laws.values())
    linear = all(isinstance(role, Writes | Reads) for role in roles)
    if isinstance(law, LayerNorm | RMSNorm) and linear and not normed:
        return "under this config a projection reads the space, and no norm"
    return ""


def main(names: list[str]) -> int:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    cases = [case for case in FIRST if not names or case[0] in names]
    counted: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    passed: list[str] = []
    start = time.process_time()
    for number, (model_type, model_class, branch) in enumerate(cases):
        with exact_arithmetic():
            raw = small_config(model_type, model_class, branch)
            for choice in CHOICES:
                if is_refused(raw, choice):
                    continue
                try:
                    found = [*weights_made_wrong(raw, choice, number), *laws_made_wrong(raw, choice)]
                except GrowthError:  # no such shape
                    counted["choices refused"] += 1
                    continue
                counted["choices"] += 1
                for what, verdict in found:
                    kind = "laws" if what.startswith("law of") else "coefficients"
                    counted[kind] += 1
                    if verdict == "seen":
                        counted[f"{kind} seen"] += 1
                    elif verdict:
                        reasons[verdict] += 1
                    else:
                        passed.append(f"{model_class} {branch} {choice}: {what}")
        so_far = f"{counted['coefficients']} coefficients, {counted['laws']} laws, {len(passed)} passed"
        print(f"{number + 1}/{len(cases)} {model_class}: {so_far}", file=sys.stderr, flush=True)
    for line in passed:
        print(f"PASSED {line}")
    for why, count in reasons.most_common():
        print(f"{count:6} compute the same: {why}")
    print(
        f"{len(cases)} classes, {counted['choices']} growths, {counted['coefficients']} wrong coefficients, "
        f"{counted['coefficients seen']} seen; {counted['laws']} wrong laws, {counted['laws seen']} seen; "
        f"{reasons.total()} compute the same; {len(passed)} false passes; {time.process_time() - start:.0f} s of CPU"
    )
    return 1 if passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
