"""What training makes of more experts: it starts where it was, and copies separate or do not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch.optim import AdamW

import growth
from growth.extension.split import Apart
from growth.proof.float64 import exact_arithmetic

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import experts

from support.expert_models import CHOICES, expert_model, expert_step, with_experts


@pytest.mark.parametrize(
    ("family", "choice"),
    [("mixtral", "twice as many"), ("mixtral", "finer"), ("gpt_oss", "three times as many"), ("granitemoe", "finer")],
)
def test_training_starts_where_it_was(family: str, choice: str) -> None:
    """The loss, with that of the balance of experts, and the gradients, of which each copy has its share."""
    with exact_arithmetic():
        model = expert_model(family)
        optimizer = AdamW(model.parameters(), lr=1e-4)
        expert_step(model, optimizer)
        asked = CHOICES[choice](with_experts()[f"{family} 0"][1])
        grown = growth.widen(model, optimizer=optimizer, **{**asked, "noise": 0})
        assert grown.optimizer is not None and grown.plan.extension is not None
        parts = grown.plan.extension.parts
        assert all(("gate" in name or "router" in name) and choice == "finer" for name in grown.uneven)
        assert bool(grown.uneven) is (choice == "finer")
        before, old = expert_step(model, optimizer)
        after, new = expert_step(grown.model, grown.optimizer)
        assert abs(before - after) <= 1e-12
        expected = grown.plan.extension.state(old, 1)
        assert new.keys() == expected.keys()
        for name, value in expected.items():
            if parts[name].uneven:  # the shares differ, and add up
                value, new = old[name], {**new, name: new[name].unflatten(0, (-1, len(old[name]))).sum(0)}
            assert torch.allclose(new[name], value, atol=1e-12), name
        # and goes on as it would have
        assert (
            choice == "finer"
            or abs(expert_step(model, optimizer)[0] - expert_step(grown.model, grown.optimizer)[0]) <= 1e-6
        )


def test_which_copies_separate() -> None:
    """Whole copies do with noise, and parts of an expert do without."""
    with exact_arithmetic():
        count = with_experts()["mixtral 0"][1]
        for choices, apart in (
            ({"experts": 2 * count, "symmetry": "none"}, False),
            ({"experts": 2 * count}, True),
            ({"experts": 2 * count, "expert_size": 12}, True),
        ):
            grown = growth.widen(expert_model("mixtral"), **choices).model
            optimizer = AdamW(grown.parameters(), lr=1e-3)
            for _ in range(2):
                expert_step(grown, optimizer)
            rows = grown.model.layers[0].mlp.gate.weight
            assert bool(((rows[:count] - rows[count:]).abs() > 1e-6).any()) is apart


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss"])
@pytest.mark.parametrize(("choice", "kept"), [("twice as many", 1), ("finer", 2), ("finer and more", 3)])
def test_what_is_new(family: str, choice: str, kept: int) -> None:
    """Whole copies but the first; all parts of an expert, where its copies share it out, are old once."""
    count = with_experts()[f"{family} 0"][1]
    grown = growth.widen(expert_model(family), **CHOICES[choice](count))
    masks = grown.new_coordinates()
    for name, mask in masks.items():
        if ".experts." in name and mask.ndim == 3:
            assert [bool(one.any()) for one in mask] == [number >= kept * count for number in range(len(mask))], name
    with growth.training.train_new_only(grown):
        optimizer = AdamW(grown.model.parameters(), lr=1e-2)
        before = {name: value.detach().clone() for name, value in grown.model.named_parameters()}
        expert_step(grown.model, optimizer)
    for name, value in grown.model.named_parameters():
        assert torch.equal(value[~masks[name]], before[name][~masks[name]])


@pytest.mark.parametrize("copies", [2, 3, 4, 5])
def test_noise_adds_up_to_nothing(copies: int) -> None:
    """Of one tensor for all experts and of a tensor for each."""
    weights = torch.randn(3, 40, 50, dtype=torch.float64)
    fused = Apart(0.5, 7, "down", copies).of(weights.repeat(copies, 1, 1)).unflatten(0, (copies, 3))
    alone = torch.stack([Apart(0.5, 7, "down", copies, number).of(weights[0]) for number in range(copies)])
    for noisy, clean in ((fused, weights), (alone, weights[0])):
        assert float((noisy.mean(0) - clean).abs().max()) < 1e-14
        noise = noisy - clean
        assert float(noise.square().mean().sqrt() / clean.square().mean().sqrt()) == pytest.approx(0.5, rel=0.03)
        assert len({float(one.flatten()[0]) for one in noise}) == copies
    again = Apart(0.5, 7, "down", copies).of(weights.repeat(copies, 1, 1))
    other = Apart(0.5, 8, "down", copies).of(weights.repeat(copies, 1, 1))
    assert torch.equal(again, fused.flatten(0, 1)) and not torch.equal(other, again)


@pytest.mark.slow
def test_the_benchmark_of_rounding() -> None:
    found, (own, more) = experts.measured("qwen3_moe")
    assert found.keys() == experts.CHOICES.keys()
    assert all(largest < 1e-4 and same for largest, same in found.values()) and more < own
