"""Which weights of a grown model are new: for names in memory, from a growth, a plan or a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel

import growth
from growth.algebra.dimensions import Dimension
from growth.checkpoint.companions import write_json
from growth.errors import CheckpointError, IllegalGrowthError, UnsupportedModelError
from growth.hf.configs import Config
from growth.plan.tensor_plan import TensorPlan
from growth.proof.float64 import exact_arithmetic
from growth.proof.miniature import build_exact, loud
from growth.training import coordinates, new_coordinates
from growth.training.coordinates import new_weights
from growth.training.recorded import recorded_plan
from support.custom_models import Odd, OddConfig
from support.family_cases import MAIN, small_config
from support.optimizers import llama, no_twin, registered
from support.trainer_runs import MODELS

__all__ = ["no_twin", "registered"]  # fixtures, the first for every test here

CLASS = {model_type: (model_class, branch) for model_type, model_class, branch in MAIN}
FAMILIES = ["llama", "gpt2", "mixtral", "qwen3_moe", "gpt_neox", "t5", "bert", "deepseek_v2", "olmoe"]
"""Projections that stand the other way round, fused ones, experts fused in memory, several on disk."""
SCALED = {1.0, 0.5, 2.0, 0.25, 2**-0.5, 2**0.5, 2**-1.5}
"""What twice the width multiplies a weight by."""


def grown(model_type: str, **choices: Any) -> tuple[PreTrainedModel, growth.Grown[Any]]:
    with exact_arithmetic():
        model = build_exact(small_config(model_type, *CLASS[model_type]))
        loud(model, 1)
        return model, growth.widen(model, symmetry="none", **choices)


def check_values(old: nn.Module, wide: growth.Grown[Any]) -> None:
    """The weights that are not new are the old model's, in their order, times what twice the width multiplies
    by; there are as many."""
    masks, before = wide.new_coordinates(), dict(old.named_parameters())
    assert [*masks] == [name for name, _ in wide.model.named_parameters()]
    for name, parameter in wide.model.named_parameters():
        kept = parameter.detach()[~masks[name]]
        assert kept.numel() == before[name].numel(), name
        factor = kept.reshape(before[name].shape) / before[name].detach()
        assert torch.allclose(factor, factor.flatten()[0]), name
        assert any(abs(float(factor.flatten()[0]) - one) < 1e-9 for one in SCALED), name


@pytest.mark.parametrize("model_type", FAMILIES)
def test_what_is_not_new_is_the_old_model(model_type: str) -> None:
    check_values(*grown(model_type, width=2))


def test_of_a_module_by_the_names_it_has(registered: None) -> None:
    torch.manual_seed(0)
    wide = growth.widen(Odd(OddConfig()), width=2)
    masks = wide.new_coordinates()
    assert [*masks] == [name for name, _ in wide.model.named_parameters()]
    assert not any(name.startswith("module.") for name in masks) and all(mask.any() for mask in masks.values())


def test_a_parameter_that_does_not_grow_has_nothing_new() -> None:
    masks = growth.widen(llama(), intermediate_size=40).new_coordinates()
    assert {name for name, new in masks.items() if new.any()} == {
        f"model.layers.{layer}.mlp.{part}.weight" for layer in (0, 1) for part in ("gate_proj", "up_proj", "down_proj")
    }
    assert [float(masks[f"model.layers.0.mlp.{part}.weight"].float().mean()) for part in ("up_proj", "down_proj")] == [
        0.5,
        0.5,
    ]


def _first_rows(d: Dimension) -> Dimension:
    return replace(d, source=d.source * 0 + [min(j, d.old - 1) for j in range(d.new)])


def _along_every_dimension(tensor: TensorPlan, _: object) -> Tensor:
    """New where every dimension is: what a new row reads of old columns would count as old."""
    new = torch.ones(tensor.new_shape, dtype=torch.bool)
    for axis, d in enumerate(tensor.dimensions):
        new &= torch.from_numpy(~d.first_copies).reshape([-1 if i == axis else 1 for i in range(new.ndim)])
    return new


@pytest.mark.parametrize(
    "mutant",
    [
        lambda tensor, part: ~new_weights(tensor, part),
        lambda tensor, part: new_weights(replace(tensor, dimensions=tuple(map(_first_rows, tensor.dimensions))), part),
        _along_every_dimension,
    ],
    ids=["inverted", "the first so many", "along every dimension"],
)
def test_a_wrong_mask_is_seen(mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    old, wide = grown("gpt2", width=2)
    monkeypatch.setattr(coordinates, "new_weights", mutant)
    with pytest.raises(AssertionError):
        check_values(old, wide)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that growth wrote, of experts on disk one by one."""
    home = tmp_path_factory.mktemp("grown")
    torch.manual_seed(0)
    MODELS["mixtral"]().save_pretrained(home / "small")
    growth.widen_checkpoint(home / "small", home / "wide", width=2, noise=1)
    return home / "wide"


def test_from_a_folder_and_from_a_plan(wide: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(wide)
    masks = new_coordinates(model, wide)
    plan = growth.plan_widening(wide.with_name("small"), width=2, noise=1)
    again = new_coordinates(model, plan)
    in_memory = growth.widen(AutoModelForCausalLM.from_pretrained(wide.with_name("small")), width=2, noise=1)
    known = in_memory.new_coordinates()
    assert masks.keys() == again.keys() == known.keys() == dict(model.named_parameters()).keys()
    assert all(torch.equal(masks[name], known[name]) and torch.equal(again[name], known[name]) for name in known)
    assert 0 < sum(int(new.sum()) for new in masks.values()) < sum(new.numel() for new in masks.values())
    inner = new_coordinates(AutoModel.from_pretrained(wide), str(wide))  # without the head, and its prefix
    assert all(torch.equal(mask, masks[f"model.{name}"]) for name, mask in inner.items())
    assert torch.equal(new_coordinates(in_memory)["lm_head.weight"], masks["lm_head.weight"])


RECORDED = {
    "nested": ("clip", {"width": 2}),
    "ALiBi between": ("mpt", {"width": "5/3"}),
    "a field that was absent": ("qwen2", {"width": 2, "attention": "head-dim"}),
    "equal hidden states": ("gemma2", {"width": 1.5, "last_hidden_state": "equal"}),
}


@pytest.mark.parametrize("case", RECORDED)
def test_a_record_gives_the_plan_again(case: str, tmp_path: Path) -> None:
    model_type, choices = RECORDED[case]
    plan = growth.plan_widening(Config(small_config(model_type, *CLASS[model_type])), noise=1, **choices)
    (tmp_path / "model.safetensors").touch()
    write_json(tmp_path / "config.json", plan.new_config)
    write_json(tmp_path / "growth.json", {"plan": plan.to_json()})
    again = recorded_plan(tmp_path)
    assert again.new_config == json.loads(json.dumps(plan.new_config)) and again.tensors.keys() == plan.tensors.keys()
    assert all(torch.equal(new_weights(again.tensors[name]), new_weights(plan.tensors[name])) for name in plan.tensors)


def damaged(record: dict[str, Any]) -> Iterator[tuple[Any, str]]:
    plan = record["plan"]
    yield [], "not a record"
    yield {**record, "plan": {}}, "not a record"
    yield {**record, "plan": {**plan, "options": {"widht": 2}}}, "not a record"
    yield {**record, "plan": {**plan, "options": {**plan["options"], "width": 3}}}, "no longer give the growth"
    yield {**record, "plan": {**plan, "tensors": []}}, "no longer give the growth"


def test_a_record_that_does_not_fit_is_refused(wide: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    write_json(tmp_path / "config.json", json.loads((wide / "config.json").read_text()))
    with pytest.raises(CheckpointError, match=r"has no growth\.json"):
        recorded_plan(tmp_path)
    for record, said in damaged(json.loads((wide / "growth.json").read_text())):
        write_json(tmp_path / "growth.json", record)
        with pytest.raises(CheckpointError, match=said):
            recorded_plan(tmp_path)


def test_what_a_model_cannot_tell_is_refused() -> None:
    model, plan = llama(), growth.plan_widening(llama().config, width=2)
    wide = growth.widen(model, width=2)
    for given, refusal, said in (
        ((wide, plan), IllegalGrowthError, "has its plan"),
        ((model,), IllegalGrowthError, "does not say how it grew"),
        ((model, 2), IllegalGrowthError, r"a growth\.Plan, or the folder"),
        (("wide", plan), IllegalGrowthError, "what growth.widen returned, or a model"),
        ((model, plan), IllegalGrowthError, r"has shape \[32, 24\], not the \[32, 48\] of the plan"),
        ((nn.Linear(2, 2), plan), UnsupportedModelError, "Linear is neither"),
        ((nn.DataParallel(wide.model), plan), UnsupportedModelError, "before DDP"),
    ):
        with pytest.raises(refusal, match=said):
            new_coordinates(*given)  # type: ignore[arg-type]
    wide.model.model.adapter = nn.Linear(2, 2)
    with pytest.raises(
        IllegalGrowthError, match=r"'model\.adapter\.weight' is not in the plan of this LlamaForCausalLM"
    ):
        wide.new_coordinates()


def test_a_compiled_model_is_the_one_inside() -> None:
    wide = growth.widen(llama(), width=2)
    masks = new_coordinates(torch.compile(wide.model, backend="eager"), wide.plan)
    assert masks.keys() == wide.new_coordinates().keys()


def test_masks_are_made_of_dimensions() -> None:
    """New along any dimension is new."""
    wide = growth.plan_widening(llama().config, width=2).tensors["layers.0.mlp.down_proj.weight"]
    mask = new_weights(wide)
    assert mask.shape == (48, 40) and not mask[:24, :20].any() and mask[24:].all() and mask[:, 20:].all()
    assert isinstance(wide, TensorPlan) and torch.equal(new_weights(wide.transposed), mask.T)
