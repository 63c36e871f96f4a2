"""What is born silent learns: it changes nothing, yet what touches it gets a gradient at the first
step and has moved after three.

A coordinate is silent where what writes it or what reads it starts at 0: rotary slots between the
old pairs, ALiBi heads between the old slopes, coordinates that carry the mean (a norm leaves
nothing of them), frequencies between the old ones. Were both 0, it could never learn: no
declaration leads there, and a law that does is told of in the plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

import growth
from growth import architectures
from growth.algebra.attention_laws import Alibi, Scores
from growth.algebra.axes import Axis, Concatenation, Interleaved, Product, Space
from growth.algebra.laws import Growth, Law
from growth.algebra.maps import Integers, Map
from growth.algebra.roles import Reads, Role, Scale, Writes
from growth.plan.dead_units import never_learn
from growth.plan.options import chosen
from growth.plan.plan import Plan
from growth.plan.tensor_plan import TensorPlan
from growth.proof.inputs import random_inputs
from growth.proof.miniature import build_exact, loud
from growth.proof.twin import twin_report
from growth.rules.attention import KEY, QUERY
from growth.rules.feed_forward import FFN
from support.families import VOCABULARY, exact
from support.family_cases import MAIN, Choice, first_accepted, planned, small_config

exactly = pytest.fixture(exact, autouse=True)

SILENT: dict[str, tuple[str, str, dict[str, Any], set[str]]] = {
    "rotary slots": ("llama", "LlamaForCausalLM", {"width": 2, "attention": "head-dim"}, {"query", "key"}),
    "rotary slots of a part": (
        "gpt_neox",
        "GPTNeoXForCausalLM",
        {"width": 2, "attention": "head-dim"},
        {"rotary query", "rotary key"},
    ),
    "normed rotary slots": ("qwen3", "Qwen3ForCausalLM", {"width": 2, "attention": "head-dim"}, {"query", "key"}),
    "ALiBi heads, fused head by head": ("bloom", "BloomForCausalLM", {"width": 2}, {"heads", "heads of values"}),
    "ALiBi heads, fused": (
        "mpt",
        "MptForCausalLM",
        {"width": "5/3"},
        {"heads", "heads of values", "residual", "normed", "final"},
    ),
    "means": ("gpt2", "GPT2LMHeadModel", {"width": 1.5}, {"residual", "normed", "final"}),
    "means, orthogonal": (
        "gpt2",
        "GPT2LMHeadModel",
        {"width": 1.5, "scaling": "orthogonal"},
        {"residual", "normed", "final"},
    ),
    "means beside rotary positions": (
        "stablelm",
        "StableLmForCausalLM",
        {"width": "4/3"},
        {"residual", "normed", "final"},
    ),
    "sinusoids": ("xlnet", "XLNetLMHeadModel", {"width": 2}, {"sinusoids"}),
}
"""Where it is -> family, class, growth, and the spaces that have silent coordinates."""


def positions(axis: Axis, space: Space, maps: dict[Space, Map]) -> Integers:
    """``[m of the axis]``: which coordinate of ``space`` each of the axis belongs to, -1 for
    none."""
    if axis == space:
        return np.arange(maps[space].m)
    if isinstance(axis, Product):
        outer, inner = positions(axis.outer, space, maps), positions(axis.inner, space, maps)
        return np.maximum(outer[:, None], inner[None, :]).ravel()
    if isinstance(axis, Concatenation):
        return np.concatenate([positions(axis.before, space, maps), positions(axis.after, space, maps)])
    if isinstance(axis, Interleaved):
        blocks = [positions(part, space, maps).reshape(part.outer.map(maps).m, -1) for part in axis.parts]
        return np.concatenate(blocks, axis=1).ravel()
    return np.full(axis.map(maps).m, -1)


def axes(role: Role) -> list[Axis]:
    if isinstance(role, (Writes, Reads)):
        return [role.axis]
    return [role.enters, role.leaves] if isinstance(role, Scale) else []


def silent(plan: Plan) -> Iterator[tuple[frozenset[Space], int]]:
    """(space, coordinate) for all that are born silent. Queries and the keys they meet are one, and
    the parts of a head; and what a norm without a bias leaves is one with what enters it, which
    moves first."""
    roles = {role for tensor in plan.tensors.values() for role in tensor.roles}
    written = {space for role in roles if isinstance(role, Writes) for space in role.spaces()}
    seen = set()
    for space, grown in plan.maps.items():
        law, one = plan.architecture.laws[space], {space}
        if isinstance(law, (Scores, Alibi)):
            one = {
                other
                for other in plan.maps
                if other.size == space.size and type(plan.architecture.laws[other]) is type(law)
            }
        elif space not in written:
            one |= {
                entering
                for role in roles
                if isinstance(role, Scale) and role.leaves == space
                for entering in role.enters.spaces()
            }
        for j in np.flatnonzero((grown.write == 0) | (grown.read == 0)):
            if (frozenset(one), int(j)) not in seen:
                seen.add((frozenset(one), int(j)))
                yield frozenset(one), int(j)


def touching(tensor: TensorPlan, plan: Plan, value: Tensor, space: Space, j: int) -> Iterator[Tensor]:
    """The parts of a tensor that belong to one coordinate of a space."""
    for dimension, role in enumerate(tensor.roles):
        for axis in axes(role):
            if space in axis.spaces():
                which = torch.from_numpy(np.flatnonzero(positions(axis, space, dict(plan.maps)) == j))
                if len(which):
                    yield value.index_select(dimension, which)


def backward(model: PreTrainedModel) -> None:
    model.zero_grad()
    logits = model(**random_inputs(model, VOCABULARY)).logits
    targets = torch.randint(VOCABULARY, logits.shape[:-1], generator=torch.Generator().manual_seed(7))
    torch.nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten()).backward()


def parameters(model: PreTrainedModel, plan: Plan) -> dict[str, torch.nn.Parameter]:
    """Those the plan knows, by its names; a base-model prefix aside, memory and disk agree on the
    families above."""
    return {name: parameter for name, parameter in model.named_parameters() if name in plan.tensors}


@pytest.mark.parametrize("where", SILENT)
def test_what_is_born_silent_learns_from_the_first_step(where: str) -> None:
    model_type, model_class, choice, expected = SILENT[where]
    small = build_exact(small_config(model_type, model_class, {}))
    loud(small, 1)
    grown = growth.widen(small, **choice)
    model, plan = grown.model, grown.plan
    coordinates = list(silent(plan))
    assert {space.name for spaces, _ in coordinates for space in spaces} == expected
    known = parameters(model, plan)
    start = {name: value.detach().clone() for name, value in known.items()}
    assert known.keys() | {"lm_head.weight", "lm_loss.weight", "embed_out.weight"} >= plan.tensors.keys()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    for step in range(3):
        backward(model)
        if step == 0:
            for spaces, j in coordinates:
                gradients = [
                    part
                    for name, parameter in known.items()
                    for space in spaces
                    for part in touching(plan.tensors[name], plan, parameter.grad, space, j)  # type: ignore[arg-type]
                ]
                assert max(float(part.abs().max()) for part in gradients) > 1e-9, (sorted(map(str, spaces)), j)
        optimizer.step()
    for spaces, j in coordinates:
        for name, parameter in known.items():
            for space in spaces:
                moved = [
                    part.abs().max()
                    for part in touching(plan.tensors[name], plan, parameter.detach() - start[name], space, j)
                ]
                assert all(float(part) > 1e-5 for part in moved), (name, str(space), j)


@pytest.mark.slow
@pytest.mark.parametrize("choice", [{"width": 2, "attention": "head-dim"}, {"width": 1.5}], ids=str)
def test_no_declaration_leads_to_a_coordinate_that_never_learns(choice: Choice) -> None:
    """By this choice, or where the declaration refuses it by the same with more heads."""
    for case in MAIN:
        raw = small_config(*case)
        _, plan = planned(raw, first_accepted(raw, [choice, {**choice, "attention": "heads"}], 0))
        assert not never_learn(
            plan.maps, plan.architecture.laws, {tensor.roles for tensor in plan.tensors.values()}
        ), case
        assert not any("never learn" in note for note in plan.notes)


class Forgotten(Law):
    """One living copy of each coordinate, and the others silent on both sides."""

    def grow(self, g: Growth) -> Map:
        alive = (np.arange(g.m) < g.n).astype(np.float64)
        return Map(g.n, np.arange(g.m) % g.n, alive, alive)


class Deaf(Scores):
    """Queries that are silent where the keys are."""

    def grow(self, g: Growth) -> Map:
        stock = super().grow(g)
        alive = stock.read != 0
        return Map(stock.n, stock.source, stock.write * alive, stock.read)


@pytest.mark.parametrize(
    ("laws", "choice", "told"),
    [
        ({FFN: Forgotten()}, {"width": 2, "symmetry": "none"}, ["29 of the 58 coordinates of 'ffn'"]),
        (
            {QUERY: Deaf("query", "half")},
            {"width": 2, "attention": "head-dim", "symmetry": "none"},
            ["6 of the 12 coordinates of 'key'", "6 of the 12 coordinates of 'query'"],
        ),
    ],
    ids=["feed-forward", "scores"],
)
def test_the_plan_says_what_never_learns(laws: dict[Space, Law], choice: dict[str, Any], told: list[str]) -> None:
    """Exact all the same, so that only the plan can say it; and indeed none of it moves."""
    raw = small_config("llama", "LlamaForCausalLM", {})
    stock = architectures.find("llama")
    try:
        growth.register(replace(stock, laws={**stock.laws, **laws}))
        assert twin_report(raw, chosen(choice)).ok  # type: ignore[arg-type]
        small = build_exact(raw)
        loud(small, 1)
        grown = growth.widen(small, **choice)
        noisy = growth.widen(small, noise=1, **{key: value for key, value in choice.items() if key != "symmetry"})
    finally:
        growth.register(stock)
    said = [note for note in grown.plan.notes if "never learn" in note]
    assert len(said) == len(told) and all(part in note for part, note in zip(told, said, strict=True))
    dead = never_learn(
        grown.plan.maps, grown.plan.architecture.laws, {tensor.roles for tensor in grown.plan.tensors.values()}
    )
    assert {space for space in dead} == ({KEY, QUERY} if QUERY in laws else {FFN})
    assert not any(part.any() for part in moved(grown, dead))
    assert not any("never learn" in note for note in noisy.plan.notes)
    assert all(part.any() for part in moved(noisy, dead)), "noise wakes them"


def moved(grown: growth.Grown[Any], dead: Mapping[Space, Integers]) -> list[Tensor]:
    """For each of some coordinates, how far the weights that touch it move in three steps, as one vector."""
    optimizer = torch.optim.AdamW(grown.model.parameters(), lr=1e-3, weight_decay=0.0)
    known = parameters(grown.model, grown.plan)
    start = {name: value.detach().clone() for name, value in known.items()}
    for _ in range(3):
        backward(grown.model)
        optimizer.step()
    change = {name: parameter.detach() - start[name] for name, parameter in known.items()}

    def of(space: Space, j: int) -> Tensor:
        parts = (touching(grown.plan.tensors[name], grown.plan, each, space, j) for name, each in change.items())
        return torch.cat([part.flatten() for found in parts for part in found])

    return [of(space, int(j)) for space, which in dead.items() for j in which]
