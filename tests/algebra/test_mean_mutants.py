"""Wrong ways to carry the mean fail in the twin, where the right one passes, on models that do not
grow by a multiple."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from algebra import test_mean as checks

from growth.algebra import maps
from growth.algebra.derived_laws import Normalised
from growth.algebra.dimensions import Dimension
from growth.algebra.laws import Growth, Linear
from growth.algebra.maps import Map
from growth.algebra.norm_laws import Isometric, LayerNorm, RMSNorm
from growth.algebra.roles import Gain, Maps
from growth.errors import GrowthError
from growth.plan import candidate
from growth.plan.options import Options, chosen
from growth.plan.plan import TOLERANCE
from growth.proof import outputs
from growth.proof.twin import twin_report
from growth.weights import blocks, grow

GPT2 = {
    **{
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_embd": 16,
        "n_head": 4,
        "n_layer": 2,
        "n_inner": 20,
    },
    **{"vocab_size": 41, "n_positions": 40, "layer_norm_epsilon": 0.03},
}
LLAMA = {
    **{
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 16,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
    },
    **{"num_key_value_heads": 2, "head_dim": 4, "intermediate_size": 20, "vocab_size": 41, "rms_norm_eps": 0.03},
}
OLMO = {
    **{
        "model_type": "olmo",
        "architectures": ["OlmoForCausalLM"],
        "hidden_size": 16,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
    },
    **{"intermediate_size": 20, "vocab_size": 41, "tie_word_embeddings": False},
}
HALF_AS_MUCH, ORTHOGONAL = chosen({"width": 1.5}), chosen({"width": 2.5, "scaling": "orthogonal"})

Patch = pytest.MonkeyPatch
grow_layer_norm, grow_linear, grow_rms = LayerNorm.grow, Linear.grow, RMSNorm.grow


def means(change: Callable[[Map], Map]) -> Callable[[Patch], None]:
    """The input of a layer norm changed, where it carries the mean."""

    def grow(law: LayerNorm, g: Growth) -> Map:
        right = grow_layer_norm(law, g)
        return change(right) if right.averages else right

    return lambda patch: patch.setattr(LayerNorm, "grow", grow)


def any_gain(patch: Patch) -> None:
    """Gains that refuse nothing, and are 1 where they have no effect."""

    def resolve(gain: Gain, size: int, maps: Maps) -> Dimension:
        enters, leaves = gain.enters.map(maps), gain.leaves.map(maps)
        idle = enters.means | (enters.write == 0)
        value = np.where(idle, 1.0, leaves.write / np.where(idle, 1.0, gain.arriving(enters)))
        return Dimension(enters.n, leaves.source, value, value)

    patch.setattr(Gain, "resolve", resolve)


def zero(patch: Patch) -> None:
    """Zero instead of the mean."""
    means(lambda a: Map(a.n, a.source, np.where(a.means, 0.0, a.write), a.read))(patch)
    any_gain(patch)


def scaled(a: Map) -> Map:
    """Means with the root of their coefficient."""
    return Map(a.n, a.source, np.where(a.means, a.write**0.5, a.write), a.read, a.mean)


def negated(a: Map) -> Map:
    return Map(a.n, a.source, np.where(a.means, -a.write, a.write), a.read, a.mean)


def epsilon_left(patch: Patch) -> None:
    patch.setattr(candidate, "grown_epsilons", lambda *_: ({}, []))


def energy_of_all(patch: Patch) -> None:
    """The energy of x' itself instead of that of x' - mean(x')."""
    patch.setattr(Map, "energy", property(lambda a: float((a.write**2).sum() / a.m)))


def no_silent_outputs(patch: Patch) -> None:
    """The output of a norm is not silent where the mean entered, and the gain does not refuse
    it."""

    def grow(law: Linear, g: Growth) -> Map:
        return (
            grow_linear(Linear(), g)
            if law.layout is not None and law.layout.map(g.maps).averages
            else grow_linear(law, g)
        )

    patch.setattr(Linear, "grow", grow)
    any_gain(patch)


def first_instead_of_mean(patch: Patch) -> None:
    for module in (blocks, grow):
        patch.setattr(module, "mean", lambda block, axis: block.double().narrow(axis, 0, 1))


def mean_of_the_copies(patch: Patch) -> None:
    """The mean over the new rows, among which some old ones occur twice."""
    right = blocks.take

    def take(block: torch.Tensor, axis: int, dimension: Dimension) -> torch.Tensor:
        if dimension.mean is None or not dimension.averages:
            return right(block, axis, dimension)
        rows = right(block, axis, replace(dimension, mean=None)).double()
        return torch.where(
            blocks.column(dimension.mean, block.ndim, axis, rows) != 0, rows.mean(axis, keepdim=True), rows
        )

    for module in (blocks, grow):
        patch.setattr(module, "take", take, raising=False)


def outputs_without_means(patch: Patch) -> None:
    def grown(value: torch.Tensor, grown: Map | None) -> torch.Tensor:
        return value if grown is None else value[..., torch.from_numpy(grown.source)] * torch.from_numpy(grown.write)

    patch.setattr(outputs, "grown_output", grown)


def uneven_energy(patch: Patch) -> None:
    """Every copy has write = 1, so coordinates with more copies have more energy; the gain takes
    the mean energy."""
    patch.setattr(RMSNorm, "grow", lambda law, g: Map.repeat(g.n, g.m))
    patch.setattr(Map, "energy", property(lambda a: float((a.write**2).sum() / a.m)))


MUTANTS: dict[str, tuple[dict[str, Any], Options, Callable[[Patch], None]]] = {
    "zero instead of the mean": (GPT2, HALF_AS_MUCH, zero),
    "the mean off by a root": (GPT2, ORTHOGONAL, means(scaled)),
    "the mean negated": (GPT2, HALF_AS_MUCH, means(negated)),
    "epsilon left as it was": (GPT2, HALF_AS_MUCH, epsilon_left),
    "epsilon left as it was, orthogonal": (GPT2, ORTHOGONAL, epsilon_left),
    "epsilon left as it was, RMS": (LLAMA, HALF_AS_MUCH, epsilon_left),
    "energy with the mean in it": (GPT2, HALF_AS_MUCH, energy_of_all),
    "coordinates that should be silent are not": (GPT2, HALF_AS_MUCH, no_silent_outputs),
    "one row instead of the mean of rows": (GPT2, HALF_AS_MUCH, first_instead_of_mean),
    "mean of the copies": (GPT2, HALF_AS_MUCH, mean_of_the_copies),
    "hidden states compared without their mean": (GPT2, HALF_AS_MUCH, outputs_without_means),
    "uneven energy under an RMS norm": (LLAMA, HALF_AS_MUCH, uneven_energy),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_mean_fails_where_the_right_one_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, options, mutate = MUTANTS[name]
    assert twin_report(raw, options).difference <= TOLERANCE
    mutate(monkeypatch)
    assert twin_report(raw, options).difference > 1e-4


@pytest.mark.parametrize(
    "choices", [{"symmetry": "noise:0.5"}, {"symmetry": "split:1/3"}, {"symmetry": "split:varied"}], ids=str
)
@pytest.mark.parametrize(("scaling", "attention"), [("unit", "heads"), ("orthogonal", "head-dim")])
def test_broken_symmetry_keeps_the_mean(choices: dict[str, Any], scaling: Any, attention: Any) -> None:
    for width in (1.5, 2.5):
        options = chosen({"width": width, "scaling": scaling, "attention": attention, **choices})  # type: ignore[typeddict-item]
        assert twin_report(GPT2, options).difference <= TOLERANCE


def test_a_gain_refuses_outputs_that_are_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant above, with the real gain."""
    monkeypatch.setattr(Linear, "grow", lambda law, g: grow_linear(Linear(), g))
    with pytest.raises(GrowthError, match="carry the mean of itself, which a norm cannot write"):
        twin_report(GPT2, HALF_AS_MUCH)


def test_with_an_epsilon_fixed_by_code_the_energy_must_be_1(monkeypatch: pytest.MonkeyPatch) -> None:
    assert twin_report(OLMO, HALF_AS_MUCH).difference <= TOLERANCE

    def root(law: LayerNorm, g: Growth) -> Map:
        right = grow_layer_norm(law, g)
        return right.scaled(0.9) if right.averages else right

    monkeypatch.setattr(LayerNorm, "grow", root)
    with pytest.raises(GrowthError, match="the code fixes"):
        twin_report(OLMO, HALF_AS_MUCH)


def dual_of_copies(patch: Patch) -> None:
    patch.setattr(Map, "dual", property(lambda a: Map(a.n, a.source, a.read, a.write)))


def plain_isometric(patch: Patch) -> None:
    patch.setattr(Isometric, "grow", lambda law, g: Map.repeat(g.n, g.m))


def always_isometric(patch: Patch) -> None:
    patch.setattr(RMSNorm, "grow", lambda law, g: grow_rms(law, replace(g, isometric=True)))


def normalised_everywhere(patch: Patch) -> None:
    patch.setattr(Normalised, "grow", lambda law, g: grow_linear(Linear(), g))


def any_axis(patch: Patch) -> None:
    patch.setattr(maps, "_refuse_means", lambda *parts: None)


SIZE = (24, 42)
CHECKS: list[tuple[Callable[..., None], tuple[Any, ...], Callable[[Patch], None]]] = [
    (checks.test_the_layer_norm_of_the_grown_stream_is_the_grown_norm, (SIZE, "unit", False, 0), zero),
    (checks.test_the_layer_norm_of_the_grown_stream_is_the_grown_norm, (SIZE, "unit", False, 0), means(negated)),
    (checks.test_the_layer_norm_of_the_grown_stream_is_the_grown_norm, (SIZE, "unit", False, 0), energy_of_all),
    (checks.test_whole_copies_come_first_and_the_mean_fills_the_rest, (SIZE, "unit"), means(lambda a: a.scaled(0.9))),
    (checks.test_an_epsilon_that_cannot_move_takes_an_energy_of_one, (SIZE,), means(lambda a: a.scaled(0.9))),
    (checks.test_an_epsilon_that_cannot_move_takes_an_energy_of_one, (SIZE,), plain_isometric),
    (checks.test_an_rms_norm_writes_most_coordinates_without_rounding, (SIZE,), always_isometric),
    (checks.test_the_output_of_a_norm_is_silent_where_the_mean_entered, (SIZE, "unit"), no_silent_outputs),
    (checks.test_the_output_of_a_norm_without_a_gain_follows_its_law, (SIZE, "unit", 0), normalised_everywhere),
    (
        checks.test_a_head_that_shares_its_matrix_takes_its_mean_where_the_embedding_writes_it,
        (SIZE, "unit", 0),
        dual_of_copies,
    ),
    (checks.test_a_gain_is_1_where_the_mean_entered, (SIZE, "unit"), any_gain),
    (checks.test_neither_a_norm_nor_a_factor_per_coordinate_can_write_a_mean, (), any_gain),
    (checks.test_no_part_of_a_larger_axis_may_carry_its_mean, (), any_axis),
    (checks.test_outputs_are_compared_with_their_mean, (), outputs_without_means),
    *(
        (checks.check_arithmetic, (name, 42, "unit", torch.float64, 64), first_instead_of_mean)
        for name in checks.TENSORS
        if name != "reads the output of a norm"  # which has no mean
    ),
]


@pytest.mark.parametrize(("check", "arguments", "mutate"), CHECKS, ids=lambda value: getattr(value, "__name__", None))
def test_every_check_can_fail(
    check: Any, arguments: tuple[Any, ...], mutate: Callable[[Patch], None], monkeypatch: Patch
) -> None:
    once = check.hypothesis.inner_test if "hypothesis" in vars(check) else check
    once(*arguments)
    mutate(monkeypatch)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        once(*arguments)
