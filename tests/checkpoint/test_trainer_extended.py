"""Checkpoints of the real `transformers.Trainer` that get more layers, or a head of their own: it
resumes, with the small model's loss and with the optimizer that growth in memory makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("accelerate", reason="transformers.Trainer needs it")

from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaForCausalLM

import growth
from growth.architectures import find
from growth.checkpoint import parameter_numbers
from growth.checkpoint.parameter_numbers import trainer_order
from growth.extension.stacks import layer_lists
from growth.hf.configs import Config
from growth.hf.model_classes import class_of
from growth.proof.miniature import build_exact
from support.family_cases import MAIN, first_accepted, label, small_config
from support.trainer_runs import Run, by_name, checkpoint, loaded, mark, run, same, stopped

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "AdamW, foreach": {"optim": "adamw_torch"},
    "AdamW, fused": {"optim": "adamw_torch_fused"},
    "SGD": {"optim": "sgd", "optim_args": "momentum=0.9", "learning_rate": 0.1},
    "RMSprop": {"optim": "rmsprop", "optim_args": "momentum=0.5,centered=true", "learning_rate": 1e-4},
    "Adagrad": {"made": (torch.optim.Adagrad, {"lr": 1e-2, "initial_accumulator_value": 0.25})},
}
"""Which optimizer of Trainer -> how it is asked for."""

MORE: dict[str, dict[str, Any]] = {
    "gpt2": {"untie": True},
    "mixtral": {"experts": 6, "experts_per_token": 4, "kv_heads": 4, "noise": 0.5},
}

DEEPER: dict[str, Any] = {"layers": 5, "insert": "after:0,1,1"}


def resumed(folder: Path, target: Path, **changes: Any) -> Run:
    return run(AutoModelForCausalLM.from_pretrained(target), folder, target, steps=4, **changes)


def some(names: Any, *default: str) -> list[Any]:
    """All, of which those that are not the default are slow."""
    return [name if name in default else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("optimizer", some(OPTIMIZERS, "AdamW, foreach", "Adagrad"))
def test_training_goes_on(optimizer: str, tmp_path: Path) -> None:
    settings = OPTIMIZERS[optimizer]
    source, model, held = checkpoint(tmp_path, "llama", **settings)
    small = run(LlamaForCausalLM.from_pretrained(source), tmp_path / "same", source, steps=4, **settings)
    target = tmp_path / "wide" / "checkpoint-2"
    growth.widen_checkpoint(source, target, optimizer=True, width=2, **DEEPER)
    deep = resumed(tmp_path / "wide", target, **settings)
    assert deep.losses[3] == pytest.approx(small.losses[3], rel=2e-6) and deep.trainer.state.global_step == 4
    grown = growth.widen(model, optimizer=held, hyper="keep", width=2, **DEEPER)
    assert grown.optimizer is not None and same(deep.seen.held, by_name(grown.model, grown.optimizer))
    assert grown.plan.extension is not None
    begun = {name for name in deep.seen.held if grown.plan.extension.adds(name)}
    assert bool(begun) is (optimizer == "Adagrad")  # which makes its state when it is built
    assert all(deep.seen.held[name]["step"] == 0 for name in begun)
    steps = {name: float(state["step"]) for name, state in by_name(*parts(deep)).items() if "step" in state}
    assert {2.0, 4.0} >= {*steps.values()} and all(
        (count == 2) is grown.plan.extension.adds(name) for name, count in steps.items()
    )


def parts(done: Run) -> tuple[Any, Any]:
    return done.trainer.model, done.trainer.optimizer


@pytest.mark.parametrize("kind", MORE)
@pytest.mark.parametrize("moments", some(["preserve", "fresh"], "preserve"))
def test_disk_and_memory_agree_bit_for_bit(kind: str, moments: Any, tmp_path: Path) -> None:
    """Also with a head of its own (GPT-2 ties it), older names, and more experts, that are one
    parameter."""
    source, model, optimizer = checkpoint(tmp_path, kind)
    mark(source, model, optimizer)
    weights = {
        name.removeprefix("transformer."): value for name, value in load_file(source / "model.safetensors").items()
    }
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    choices: dict[str, Any] = {"layers": 3, "width": 2, "heads": "keep", **MORE[kind]}
    growth.widen_checkpoint(source, tmp_path / "wide", optimizer=True, moments=moments, **choices)
    grown = growth.widen(model, optimizer=optimizer, hyper="keep", moments=moments, **choices)
    wide, read = loaded(tmp_path / "wide")
    assert grown.optimizer is not None and same(by_name(wide, read), by_name(grown.model, grown.optimizer))
    assert all(torch.equal(value, wide.state_dict()[name]) for name, value in grown.model.state_dict().items())
    if kind == "gpt2":
        held = by_name(wide, read)
        assert torch.equal(held["lm_head.weight"]["step"], held["transformer.wte.weight"]["step"])


def is_planned(folder: Path, choices: Any) -> bool:
    try:
        return growth.plan_widening(folder, **choices).extension is not None
    except growth.IllegalGrowthError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "model_class", "branch"), MAIN, ids=label)
def test_disk_and_memory_agree_in_every_family(
    model_type: str, model_class: str, branch: dict[str, Any], tmp_path: Path
) -> None:
    """With the fewest layers more that the class takes. A family that takes none (post-norm) grows in
    width."""
    raw = small_config(model_type, model_class, branch)
    config = Config.of(raw)
    lists = layer_lists(config, find(model_type).at(config.parsed), class_of(config))
    deeper = [
        {"sizes": {one.size: one.count + more for one in lists}, "insert": "end", "width": 2} for more in (1, 2, 4, 6)
    ]
    model, optimizer = stopped(build_exact(raw), tmp_path / "small")
    accepted = next((one for one in deeper if lists and is_planned(tmp_path / "small", one)), None)
    choice = accepted or first_accepted(raw, [{"attention": "head-dim"}, {"attention": "heads"}], 0)
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", optimizer=True, **choice)
    grown = growth.widen(model, optimizer=optimizer, hyper="keep", **choice)
    written = torch.load(tmp_path / "wide" / "optimizer.pt", weights_only=True)["state"]
    names = [name for group in trainer_order(grown.model) for name in group]
    assert grown.optimizer is not None
    assert same({names[number]: held for number, held in written.items()}, by_name(grown.model, grown.optimizer))


def forgets_the_new_layers(order: list[list[str]]) -> list[list[str]]:
    """The order as if new layers stood behind all others."""
    return [sorted(names, key=lambda name: ".layers.3." in name or ".layers.4." in name) for names in order]


def test_new_parameters_at_other_numbers_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, model, optimizer = checkpoint(tmp_path, "llama")
    mark(source, model, optimizer)
    grown = growth.widen(model, optimizer=optimizer, hyper="keep", **DEEPER)
    assert grown.optimizer is not None
    right, wanted = parameter_numbers.trainer_order, by_name(grown.model, grown.optimizer)
    growth.widen_checkpoint(source, tmp_path / "right", optimizer=True, **DEEPER)
    assert same(by_name(*loaded(tmp_path / "right")), wanted)
    monkeypatch.setattr(parameter_numbers, "trainer_order", lambda model: forgets_the_new_layers(right(model)))
    growth.widen_checkpoint(source, tmp_path / "wrong", optimizer=True, **DEEPER)
    monkeypatch.undo()
    assert not same(by_name(*loaded(tmp_path / "wrong")), wanted)


def test_an_undeclared_optimizer_starts_anew(tmp_path: Path) -> None:
    source, _, _ = checkpoint(tmp_path, "gpt2", optim="adafactor")
    target = tmp_path / "wide" / "checkpoint-2"
    growth.widen_checkpoint(source, target, optimizer=True, moments="reset", layers=3)
    deep = resumed(tmp_path / "wide", target, optim="adafactor")
    assert deep.trainer.state.global_step == 4 and deep.seen.held == {}


def test_names_in_the_file_say_where_new_parameters_go(tmp_path: Path) -> None:
    source, _, _ = checkpoint(tmp_path, "llama")
    model = LlamaForCausalLM.from_pretrained(source)

    def made(model: Any, order: int = 1) -> torch.optim.Optimizer:
        named = list(model.named_parameters())
        groups = [[pair for pair in named if (pair[1].ndim == 1) is vectors][::order] for vectors in (True, False)]
        return torch.optim.AdamW([{"params": group} for group in groups])

    for order, refused in ((1, False), (-1, True)):
        optimizer = made(model, order)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        mark(source, model, optimizer)
        if refused:
            with pytest.raises(growth.UnsupportedModelError, match=r"in an order that does not follow .* in memory"):
                growth.widen_checkpoint(source, tmp_path / "no", optimizer=True, **DEEPER)
            continue
        growth.widen_checkpoint(source, tmp_path / "wide", optimizer=True, **DEEPER)
        grown = growth.widen(model, optimizer=optimizer, hyper="keep", **DEEPER)
        deep = LlamaForCausalLM.from_pretrained(tmp_path / "wide")
        content = torch.load(tmp_path / "wide" / "optimizer.pt", weights_only=True)
        read = made(deep)
        assert [group["param_names"] for group in content["param_groups"]] == [
            group["param_names"] for group in read.param_groups
        ]
        read.load_state_dict(content)
        assert grown.optimizer is not None and same(by_name(deep, read), by_name(grown.model, grown.optimizer))
