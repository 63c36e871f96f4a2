"""Every parameter that is declared reaches an output of the twin, and every dimension that grows is
laid out as declared: made wrong, one at a time, each shows. A check that cannot fail proves
nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from torch import Tensor

from growth.hf.tensor_names import from_disk, to_disk
from growth.plan.build import build_plan
from growth.plan.options import chosen
from growth.plan.plan import TOLERANCE, Plan
from growth.plan.tensor_plan import TensorPlan
from growth.proof.inputs import random_inputs
from growth.proof.miniature import VOCABULARY, build_exact, loud
from growth.proof.outputs import forward, largest_difference
from growth.proof.twin import LENGTHS
from growth.weights.grow import grow_tensor
from support.families import exact
from support.family_cases import ALL, Choice, first_accepted, label, small_config

exactly = pytest.fixture(exact, autouse=True)

VISIBLE = 1e-6
CHOICES: list[Choice] = [{"width": 2, "noise": 0.4, "attention": attention} for attention in ("heads", "head-dim")]
"""The first that the declaration accepts."""
UNSEEN = {
    r"q_a_proj\.weight scaled": "the norm behind it undoes it, but for the 1e-6 the code fixes",
    r"e_score_correction_bias scaled": "a tenth more of it may choose the same experts",
    r"(predictions|lm_head)\.bias scaled": "where a masked head is not tied, its decoder has a bias of its own",
    r"mask_token|mask_emb": "stands for what a training task hides",
    r"^model\.shared\.": "where nothing is tied, each stack has a table of its own",
    r"(text|visual)_projection\.weight scaled": "what it writes is divided by its length",
    r"contact_head": "read by predict_contacts alone",
    r"^layernorm\.": "a backbone returns feature maps that no norm has seen, if it is asked to",
    r"transformer.h.0.*(dense|dense_4h_to_h)\.bias": "slow_but_exact leaves them out",
}
"""Pattern of a parameter -> why no output shows it."""

WHOLE = ("ForConditionalGeneration", "MTModel", "LMHeadModel", "ForMaskedLM", "ForCausalLM", "Model")
"""Ends of the names of classes that use all their parameters, or most; the first that a family has
is taken."""


def first(case: tuple[str, str, dict[str, Any]]) -> int:
    return next((rank for rank, end in enumerate(WHOLE) if case[1].endswith(end)), len(WHOLE))


FIRST = list(
    {
        (model_type, str(branch)): (model_type, kind, branch)
        for model_type, kind, branch in sorted(ALL, key=first, reverse=True)
    }.values()
)


def invisible(tensor: TensorPlan) -> bool:
    """A key's bias adds the same to all scores of a query, which softmax does not see."""
    spaces = {space.name for role in tensor.roles for space in role.spaces()}
    return (
        len(tensor.shape) == 1
        and any("key" in name for name in spaces)
        and not any("query" in name for name in spaces)
    )


def mutants(plan: Plan, state: dict[str, Tensor]) -> Iterator[tuple[str, str, Tensor]]:
    """(tensor, what is wrong, wrong value): once per kind of tensor, layer numbers aside."""
    seen = set()
    for name, tensor in plan.tensors.items():
        kind = re.sub(r"\d+", "*", tensor.canonical)
        if kind in seen or invisible(tensor):
            continue
        seen.add(kind)
        yield name, "scaled", state[name] * 1.1
        for axis, dimension in enumerate(tensor.dimensions):
            if dimension.grows:
                yield name, f"dimension {axis} rolled", state[name].roll(1, axis)


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "model_class", "branch"), FIRST, ids=label)
def test_every_declared_parameter_matters(model_type: str, model_class: str, branch: dict[str, Any]) -> None:
    raw = small_config(model_type, model_class, branch)
    small = build_exact(raw)
    loud(small, 1)
    weights = {name: value.detach() for name, value in to_disk(small, small.state_dict()).items()}
    choice = first_accepted(raw, CHOICES, 0)
    plan = build_plan(raw, {name: tuple(value.shape) for name, value in weights.items()}, chosen(choice))  # type: ignore[arg-type]
    wide = build_exact(plan.new_config)
    state = {name: grow_tensor(weights[name], tensor) for name, tensor in plan.tensors.items()}
    inputs = [random_inputs(small, VOCABULARY, length=length) for length in LENGTHS]
    expected = [forward(small, each) for each in inputs]

    def difference(changed: dict[str, Tensor]) -> float:
        wide.load_state_dict(from_disk(wide, {**state, **changed}), strict=False)
        return max(
            largest_difference(before, forward(wide, each), plan)
            for before, each in zip(expected, inputs, strict=True)
        )

    assert difference({}) <= TOLERANCE
    one = {
        name: [other for other in weights if weights[other].data_ptr() == weights[name].data_ptr()] for name in state
    }  # tied

    def survives(name: str, wrong: Tensor) -> bool:
        return not difference({other: wrong for other in one[name] if other in state}) > VISIBLE

    survivors = [f"{name} {what}" for name, what, wrong in mutants(plan, state) if survives(name, wrong)]
    assert not [survivor for survivor in survivors if not any(re.search(unseen, survivor) for unseen in UNSEEN)]
