"""New layers that are plain copies: another function, which the caller accepts with ``lossy``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import growth
import growth.proof.twin
from growth.errors import IllegalGrowthError, ProofError
from growth.plan.build import plan_config
from growth.plan.options import chosen
from growth.proof.miniature import build_exact, loud
from growth.proof.twin import prove_twin
from support.families import exact
from support.family_cases import MAIN, small_config

exactly = pytest.fixture(exact, autouse=True)


def small(model_type: str) -> tuple[torch.nn.Module, dict[str, object]]:
    raw = small_config(*next(case for case in MAIN if case[0] == model_type))
    model = build_exact(raw)
    loud(model, 1)
    return model, raw


@pytest.mark.parametrize("model_type", ["llama", "bert"])
def test_copies_are_copies_and_the_plan_says_lossy(model_type: str) -> None:
    """Also where no silent layer is possible: the norms of BERT stand on the residual stream."""
    model, _ = small(model_type)
    grown = growth.widen(model, layers=3, insert="end", new_layers="copied", lossy=True)
    state, old = grown.model.state_dict(), model.state_dict()
    pairs = [(name, name.replace(".2.", ".1.")) for name in state if ".layer.2." in name or ".layers.2." in name]
    assert pairs and all(torch.equal(state[new], old[copied]) for new, copied in pairs)
    assert grown.plan.lossy and grown.proof.twin.difference > 1e-3
    assert grown.plan.why["num_hidden_layers"] == "insert end: copies of 1"
    assert "new_layers copied" in grown.plan.choices


def test_it_is_said_what_they_move(tmp_path: Path) -> None:
    model, _ = small("gpt2")
    model.save_pretrained(tmp_path / "small")
    result = growth.widen_checkpoint(
        tmp_path / "small", tmp_path / "deep", layers=4, width=2, new_layers="copied", lossy=True
    )
    in_memory = growth.widen(model, layers=4, width=2, new_layers="copied", lossy=True)
    for printed in (str(result), str(in_memory)):
        assert "LOSSY, as you asked: outputs of the miniature move by up to" in printed and "tolerance" not in printed
    assert "tolerance 1e-10" in str(growth.widen(model, layers=4, width=2))


def test_they_are_refused_without_lossy() -> None:
    with pytest.raises(
        IllegalGrowthError, match=r"new_layers copied makes another function.*Accept that with --lossy"
    ):
        chosen({"layers": 4, "new_layers": "copied"})


@pytest.mark.parametrize("choice", [{"new_layers": "copied", "lossy": True}, {"insert": "end"}])
def test_without_more_layers_they_change_nothing(choice: dict[str, object]) -> None:
    _, raw = small("llama")
    plan = growth.plan_widening(raw, width=2, **choice)  # type: ignore[arg-type]
    assert not plan.lossy and any("no number of layers grows" in note for note in plan.notes)


def test_that_they_are_widened_exactly_is_still_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong map of the width is seen, though what copies do hides it from the twin."""
    _, raw = small("llama")
    plan = plan_config(raw, chosen({"layers": 4, "width": 2, "new_layers": "copied", "lossy": True}))
    prove_twin(plan)
    right = growth.proof.twin.grow_tensor
    wrong = 1 + 1e-6
    monkeypatch.setattr(growth.proof.twin, "grow_tensor", lambda *args, **more: right(*args, **more) * wrong)
    with pytest.raises(ProofError, match="from one with the same layers that is not wider"):
        prove_twin(replace(plan))
