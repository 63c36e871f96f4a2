"""More experts, and finer ones, in every family that has experts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import growth
from growth.errors import IllegalGrowthError, ProofError
from growth.extension import expert_copies, experts
from growth.extension.extension import Copies
from growth.extension.part import Part
from growth.proof.float64 import exact_arithmetic
from growth.proof.inputs import random_inputs
from growth.proof.miniature import build_exact, loud
from growth.proof.outputs import forward
from growth.proof.twin import prove_twin
from support.expert_models import CHOICES, FAMILIES, expert_plan, with_experts
from support.families import generate
from support.family_cases import load


@pytest.mark.parametrize("number", range(len(FAMILIES)))
def test_every_family(number: int) -> None:
    choices = [*CHOICES]
    for which in (number % len(choices), (number + 3) % len(choices)):
        found = expert_plan(f"{FAMILIES[number]} 0", choices[which])
        report = prove_twin(found)
        assert report.ok and report.scale > 1e-3
        assert found.new_sizes["num_experts_per_tok"] * found.old_sizes["num_experts"] == (
            found.old_sizes["num_experts_per_tok"] * found.new_sizes["num_experts"]
        )


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_branch_by_every_choice(family: str, choice: str) -> None:
    for name in (name for name in with_experts() if name.startswith(f"{family} ")):
        assert prove_twin(expert_plan(name, choice)).ok, name


def test_groups_of_experts_are_copied_whole() -> None:
    """The score of a group is the sum of its two best: with copies beside each other it would be another."""
    grouped = expert_plan("deepseek_v3 0", "twice as many")
    assert grouped.config_changes["n_group"] == (3, 6) and grouped.config_changes["topk_group"] == (2, 4)
    ungrouped = next(name for name, (raw, _) in with_experts().items() if raw.get("n_group") == 1)
    assert "n_group" not in expert_plan(ungrouped, "twice as many").config_changes
    # scores of a sigmoid do not divide among copies, so what is chosen counts half
    assert expert_plan(ungrouped, "twice as many").config_changes["routed_scaling_factor"] == (2.5, 1.25)


def _without(*fields: str) -> Callable[[pytest.MonkeyPatch], None]:
    right = experts.counts_for

    def wrong(*given: Any) -> Iterator[tuple[str, Any]]:
        yield from ((name, value) for name, value in right(*given) if name not in fields)

    return lambda patch: patch.setattr(expert_copies, "counts_for", wrong)


def _part(**changes: Any) -> Callable[[pytest.MonkeyPatch], None]:
    right = expert_copies._Sharing.part

    def wrong(self: Any, name: str, roles: Any, numbers: Any) -> Part:
        part = right(self, name, roles, numbers)
        return Part(name, part.take, **{"scale": part.scale, **changes})

    return lambda patch: patch.setattr(expert_copies._Sharing, "part", wrong)


def _same_features(patch: pytest.MonkeyPatch) -> None:
    right = expert_copies._Sharing._features
    patch.setattr(expert_copies._Sharing, "_features", lambda self, axis, number: right(self, axis, 0))


MUTANTS: dict[str, tuple[str, str, Callable[[pytest.MonkeyPatch], None]]] = {
    "as many chosen as before": ("mixtral 0", "twice as many", _without("num_experts_per_tok")),
    "as many groups as before": ("deepseek_v3 0", "twice as many", _without("n_group", "topk_group")),
    "sigmoids taken for shares": ("deepseek_v3 4", "twice as many", _without("routed_scaling_factor")),
    "parts that count once": ("qwen3_moe 0", "finer", _part(scale=1.0)),
    "the same part twice": ("olmoe 0", "finer", _same_features),
    "the same part twice, fused": ("gpt_oss 0", "finer", _same_features),
    "rows of the router in another order than the experts": (
        "mixtral 0",
        "twice as many",
        lambda patch: patch.setattr(expert_copies.np, "tile", np.repeat),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_wrong_copies_fail_in_the_twin(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    which, choice, change = MUTANTS[name]
    change(monkeypatch)
    with pytest.raises(ProofError, match=r"differs by|could not be run|grows as the model does"):
        prove_twin(expert_plan(which, choice))


@pytest.mark.parametrize(("family", "field"), [("mixtral", "num_local_experts"), ("qwen3_moe", "num_experts")])
def test_on_disk(family: str, field: str, tmp_path: Path) -> None:
    raw, count = with_experts()[f"{family} 0"]
    with exact_arithmetic():
        model = build_exact({**raw, "output_router_logits": False})
        loud(model, 1)
        model.generation_config.pad_token_id, model.generation_config.eos_token_id = 0, None
        model.save_pretrained(tmp_path / "small")
        growth.widen_checkpoint(tmp_path / "small", tmp_path / "more", experts=2 * count, noise=1)
        growth.widen_checkpoint(tmp_path / "more", tmp_path / "finer", sizes={field: 4 * count}, expert_size=12)
        after = load(tmp_path / "finer", type(model).__name__)
        inputs = random_inputs(model, 41)
        before, now = forward(model, inputs, inner=False), forward(after, inputs, inner=False)
        assert max(float((value - now[name]).abs().max()) for name, value in before.items()) <= 1e-10
        assert generate(model) == generate(after)
        assert getattr(after.config, field) == 4 * count and after.config.num_experts_per_tok == 12
        after.save_pretrained(tmp_path / "again")
        kept = load(tmp_path / "again", type(model).__name__).state_dict()
        assert all(torch.equal(value, kept[name]) for name, value in after.state_dict().items())
    model, after = (each.to(torch.float32) for each in (model, load(tmp_path / "finer", type(model).__name__)))
    before, now = forward(model, inputs, inner=False), forward(after, inputs, inner=False)
    assert max(float((value - now[name]).abs().max()) for name, value in before.items()) <= 1e-4


def test_the_plan_says_what_happens() -> None:
    found = expert_plan("qwen3_moe 0", "twice as many")
    assert "never separate" not in "\n".join(found.notes)
    assert found.why["num_experts_per_tok"] == "all copies of those chosen"
    assert found.config_changes["router_aux_loss_coef"] == (0.001, 0.0005)
    equal = growth.plan_widening(found.old, experts=2 * found.old_sizes["num_experts"], symmetry="none")
    assert "identical copies of an expert never separate" in "\n".join(equal.notes)
    thirds = growth.plan_widening(found.old, experts=3 * found.old_sizes["num_experts"], expert_size=8)
    assert any("3 is no power of two" in note for note in thirds.notes)
    assert Copies(("layers.*.moe",), 2).source("layers.1.moe_gate") == "layers.1.moe_gate"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no multiple": ({"experts": 7}, "cannot have 7 experts: .* Name a multiple of 5, such as 10"),
    "fewer": ({"experts": 4}, "cannot have 4 experts: .* Name a multiple of 5"),
    "as many chosen": ({"experts": 10, "experts_per_token": 3}, "another model: all 2 copies of the 3 .* makes it 6"),
    "more chosen": ({"experts_per_token": 6}, "another model: it took 3 of them. Leave .* or name 10 experts"),
    "too fine": ({"experts": 10, "expert_size": 6}, r"cannot have experts of size 6: 2 copies .* Name 12, or more"),
    "no copies": ({"expert_size": 12}, r"cannot have experts of size 12: 1 copy of each .* Name more experts, or at"),
    "twice": ({"experts": 10, "sizes": {"num_local_experts": 15}}, "named twice, as 10 and as 15"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    choices, says = REFUSED[name]
    with pytest.raises(IllegalGrowthError, match=says):
        growth.plan_widening(with_experts()["mixtral 0"][0], **choices)


def test_a_model_without_experts() -> None:
    llama = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1}
    for choices in ({"experts": 8}, {"experts_per_token": 2}, {"expert_size": 64}):
        with pytest.raises(IllegalGrowthError, match=r"has no experts whose number can be chosen\. Leave"):
            growth.plan_widening(llama, **choices)


def test_a_largerexpert_is_a_wider_one() -> None:
    raw, count = with_experts()["qwen3_moe 0"]
    assert growth.plan_widening(raw, expert_size=48).new_sizes["moe_intermediate_size"] == 48
    both = growth.plan_widening(raw, expert_size=36, experts=2 * count)
    assert (both.new_sizes["moe_intermediate_size"], both.new_sizes["num_experts"]) == (36, 2 * count)
    assert prove_twin(both).ok
