"""Models that nobody declared, grown as a user grows them: from a folder, in memory with an optimizer, and from a
checkpoint of Trainer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

import growth
from growth.errors import IllegalGrowthError
from growth.infer.declaration import declaration
from growth.plan.options import Options
from growth.proof.float64 import exact_arithmetic
from growth.proof.miniature import build_exact
from growth.proof.modal_inputs import modal_inputs
from growth.proof.unknown_inputs import reads_more_than_text
from support.trajectories import SAME, adamw, parting, train
from support.undeclared import MODELS, tiny

IDS = torch.randint(20, 120, (2, 13), generator=torch.Generator().manual_seed(2))
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("glm4_moe", "mamba2", "qwen3_next", "llava")]
EACH = ["apertus", *SLOW]


def exact(folder: Path, inputs: dict[str, Tensor] | None = None) -> tuple[Tensor, PreTrainedModel, dict[str, Tensor]]:
    """The logits of a checkpoint in exact arithmetic, the model, and its inputs."""
    raw = json.loads((folder / "config.json").read_text())
    stored = type(build_exact(raw)).from_pretrained(folder, dtype=torch.float64)
    with exact_arithmetic(), torch.no_grad():
        model = build_exact(raw)
        model.load_state_dict(stored.state_dict())
        if inputs is None:
            inputs = modal_inputs(model) if reads_more_than_text(model) else {"input_ids": IDS}
        return model(**inputs).logits, model, inputs


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("width", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_folder(name: str, width: int, tmp_path: Path) -> None:
    tiny(name, torch.float64).save_pretrained(tmp_path / "small")
    result = growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", width=width, noise=1.0)
    assert any("inferred" in note for note in result.plan.notes)
    before, small, inputs = exact(tmp_path / "small")
    after, wide, _ = exact(tmp_path / "wide", inputs)
    assert float((after - before).abs().max()) <= 1e-10 * float(before.abs().max())
    assert sum(p.numel() for p in wide.parameters()) > 1.8 * width * sum(p.numel() for p in small.parameters()) / 2
    with exact_arithmetic(), torch.no_grad():  # a comparison that notices: one weight off by a thousandth
        next(p for p in wide.parameters() if p.ndim == 2).mul_(1.001)
        assert float((wide(**inputs).logits - before).abs().max()) > 1e-6
    if name != "llava":
        assert growth.check_equivalence(tmp_path / "small", tmp_path / "wide").equal


@pytest.mark.parametrize(
    "name",
    ["apertus", pytest.param("glm4_moe", marks=pytest.mark.slow), pytest.param("mamba2", marks=pytest.mark.slow)],
)
def test_training_goes_on_as_the_small_model_would(name: str) -> None:
    with exact_arithmetic():
        model = tiny(name, torch.float64)
        model.set_experts_implementation("eager")  # the fused kernels have no float64
        optimizer = adamw(model.parameters())
        train(model, optimizer, None, 12)
        grown = growth.widen(model, width=2, symmetry="none", optimizer=optimizer)
        apart = parting((model, optimizer, None), (grown.model, grown.optimizer, None), 12)
    if grown.uneven:  # some coordinates of a fused projection stay, and move by another rate
        assert SAME < apart < 1e-2 and all("in_proj" in one or "conv1d" in one for one in grown.uneven)
    else:
        assert apart <= SAME


def test_copies_part_with_noise() -> None:
    model = tiny("apertus")
    optimizer = adamw(model.parameters())
    train(model, optimizer, None, 3)
    grown = growth.widen(model, width=2, optimizer=optimizer, noise=1.0)
    loss = train(model, optimizer, None, 1)[0]
    assert train(grown.model, grown.optimizer, None, 4)[0] == pytest.approx(loss, rel=1e-4)
    up = dict(grown.model.named_parameters())["model.layers.0.mlp.up_proj.weight"]
    assert float((up[:40] - up[40:]).detach().norm() / up.detach().norm()) > 0.1


@pytest.mark.slow
def test_deeper_and_more_experts() -> None:
    model = tiny("glm4_moe")
    for choice in ({"layers": 3}, {"layers": 3, "width": 2}, {"experts": 8}):
        grown = growth.widen(model, **choice)  # type: ignore[arg-type]
        assert grown.proof.twin.ok, choice


def test_only_the_named_tower_grows(tmp_path: Path) -> None:
    tiny("llava", torch.float64).save_pretrained(tmp_path / "small")
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", width=2, towers="vision")
    config = json.loads((tmp_path / "wide" / "config.json").read_text())
    assert (config["text_config"]["hidden_size"], config["vision_config"]["hidden_size"]) == (24, 40)
    before, _, inputs = exact(tmp_path / "small")
    assert float((exact(tmp_path / "wide", inputs)[0] - before).abs().max()) <= 1e-10 * float(before.abs().max())
    with pytest.raises(IllegalGrowthError, match="no tower 'audio'; it has"):
        growth.plan_widening(tmp_path / "small", width=2, towers="audio")


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"width": 1.5}, "every coordinate needs the same number of copies"),
        ({"width": 2, "attention": "head-dim"}, "takes a declaration made by hand"),
        ({"width": 2, "scaling": "orthogonal"}, "takes a declaration made by hand"),
        ({"kv_heads": 4}, "takes a declaration made by hand"),
    ],
)
def test_what_is_not_offered_is_refused_by_name(choice: dict[str, Any], said: str) -> None:
    with pytest.raises(IllegalGrowthError, match=said):
        growth.widen(tiny("apertus"), **choice)


def test_it_is_inferred_once() -> None:
    raw = {**tiny("apertus").config.to_dict(), "architectures": ["ApertusForCausalLM"]}
    assert declaration(raw, Options()).base is declaration(raw, Options(width=3)).base


@pytest.mark.slow
@pytest.mark.parametrize("name", ["apertus", "glm4_moe"])
def test_a_checkpoint_of_trainer(name: str, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    from transformers import AutoModelForCausalLM

    from support.trainer_runs import run

    torch.manual_seed(0)
    small = run(MODELS[name](), tmp_path / "small")
    source, target = tmp_path / "small" / "checkpoint-30", tmp_path / "wide" / "checkpoint-30"
    growth.widen_checkpoint(source, target, width=2, noise=0.1, optimizer=True)
    wide = run(AutoModelForCausalLM.from_pretrained(target), tmp_path / "wide", target)
    assert wide.trainer.state.global_step == 60
    assert wide.losses[31] == pytest.approx(small.losses[31], rel=1e-5)
