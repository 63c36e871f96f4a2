"""Frozen growth: only what is new trains, and what is old stays bit for bit, under any optimizer."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import LBFGS, SGD, Adafactor, Adam, AdamW, Optimizer, RMSprop, SparseAdam
from torch.optim.lr_scheduler import CosineAnnealingLR
from transformers import AutoModelForCausalLM

import growth
from growth.errors import IllegalGrowthError
from growth.training import fresh_warmup, frozen, train_new_only
from growth.training.frozen import NewOnly, hold_old
from growth.training.step_hooks import Held
from support.custom_models import Odd, OddConfig
from support.optimizers import llama, no_twin, registered, step
from support.trainer_runs import MODELS, run

__all__ = ["no_twin", "registered"]  # fixtures, the first for every test here

Make = Callable[[Any], Optimizer]
MAKERS: dict[str, Make] = {
    "AdamW, foreach": lambda p: AdamW(p, lr=1e-2, weight_decay=0.1, foreach=True),
    "AdamW, fused": lambda p: AdamW(p, lr=1e-2, weight_decay=0.1, fused=True),
    "AdamW, one by one": lambda p: AdamW(p, lr=1e-2, weight_decay=0.1, amsgrad=True, foreach=False),
    "SGD": lambda p: SGD(p, lr=1e-1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "Adafactor": lambda p: Adafactor(p, lr=1e-2, weight_decay=0.1),
    "RMSprop": lambda p: RMSprop(p, lr=1e-3, momentum=0.9, weight_decay=0.1),
}


def bits(value: Tensor) -> Tensor:
    return value.detach().clone().view(torch.int32)


def before_growth(make: Make) -> growth.Grown[Any]:
    """A growth with its optimizer, whose states are full: momentum everywhere."""
    model = llama()
    optimizer = make(model.parameters())
    step(model, optimizer, 2)
    return growth.widen(model, width=2, noise=0.5, optimizer=optimizer)


def check_training(grown: growth.Grown[Any], optimizer: Optimizer, steps: int = 4) -> None:
    """A usual loop, with clipping and a schedule: the old weights stay, all of the new ones move,
    and the norm is that of the new ones."""
    model, masks = grown.model, grown.new_coordinates()
    scheduler = CosineAnnealingLR(optimizer, 10)
    start = {name: bits(parameter) for name, parameter in model.named_parameters()}
    for number in range(steps):
        ids = torch.randint(0, 32, (2, 9), generator=torch.Generator().manual_seed(number))
        optimizer.zero_grad(set_to_none=number % 2 == 0)
        model(input_ids=ids, labels=ids).loss.backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        norm = torch.stack([gradient[masks[name]].norm() for name, gradient in gradients.items()]).norm()
        assert torch.allclose(clip_grad_norm_(model.parameters(), 0.5), norm)
        optimizer.step()
        scheduler.step()
        for name, parameter in model.named_parameters():
            assert torch.equal(bits(parameter)[~masks[name]], start[name][~masks[name]]), name
    for name, parameter in model.named_parameters():
        moved = bits(parameter) != start[name]
        assert not masks[name].any() or float(moved[masks[name]].float().mean()) > 0.6, name


@pytest.mark.parametrize("later", [False, True], ids=["the grown optimizer", "made later"])
@pytest.mark.parametrize("name", MAKERS)
def test_old_weights_stay_bit_for_bit(name: str, later: bool) -> None:
    grown = before_growth(MAKERS[name])
    with torch.no_grad():
        grown.model.model.norm.weight[0] = -0.0
    with train_new_only(grown):
        optimizer = MAKERS[name](grown.model.parameters()) if later else grown.optimizer
        assert optimizer is not None
        check_training(grown, optimizer)


@pytest.mark.parametrize(
    "mutant",
    [
        {"around_steps": lambda held: ()},
        {"_gradients_of_new": lambda old: lambda gradient: gradient},
        {"Held": lambda masks: Held({parameter: ~mask for parameter, mask in masks.items()})},
        {"Held": lambda masks: Held({p: mask for p, mask in masks.items() if p.ndim > 1})},
    ],
    ids=["gradients alone", "steps alone", "the new is held", "matrices alone"],
)
def test_a_wrong_freezing_is_seen(mutant: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    grown = before_growth(MAKERS["AdamW, foreach"])
    assert grown.optimizer is not None
    for name, function in mutant.items():
        monkeypatch.setattr(frozen, name, function)
    with train_new_only(grown), pytest.raises(AssertionError):
        check_training(grown, grown.optimizer)


def test_what_has_nothing_new_costs_nothing() -> None:
    grown = growth.widen(llama(), intermediate_size=40, noise=0.5)
    held = train_new_only(grown)
    optimizer = AdamW(grown.model.parameters(), lr=1e-2)
    grown.model.activation_checkpointing_enable({"use_reentrant": True})  # which needs an input that has a gradient
    grown.model.train()
    check_training(grown, optimizer)
    masks = grown.new_coordinates()
    for name, parameter in grown.model.named_parameters():
        assert parameter.requires_grad == (parameter in optimizer.state) == bool(masks[name].any()), name
    new, weights = sum(int(new.sum()) for new in masks.values()), sum(new.numel() for new in masks.values())
    assert str(held) == f"NewOnly({new:,} of {weights:,} weights train; 6 parameters in part, 22 not at all)"
    held.remove()


def test_the_end_of_a_frozen_growth() -> None:
    grown = before_growth(MAKERS["SGD"])
    optimizer, model = grown.optimizer, grown.model
    assert optimizer is not None
    model.model.embed_tokens.requires_grad_(False)  # by the user, before
    with pytest.raises(KeyError), train_new_only(grown):
        raise KeyError
    held = train_new_only(grown)
    with held:
        pass
    held.remove()  # once more does nothing
    assert [name for name, parameter in model.named_parameters() if not parameter.requires_grad] == [
        "model.embed_tokens.weight"
    ]
    reference, other = copy.deepcopy((model, optimizer))
    step(model, optimizer, 2)
    step(reference, other, 2)
    for name, parameter in reference.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name)), name
    moved = growth.widen(llama(), intermediate_size=40)
    train_new_only(moved).remove()
    assert all(parameter.requires_grad for parameter in moved.model.parameters())


def test_with_a_warm_up() -> None:
    grown = before_growth(MAKERS["AdamW, foreach"])
    model, masks = grown.model, grown.new_coordinates()
    assert grown.optimizer is not None
    with train_new_only(grown):
        free, other = copy.deepcopy((model, grown.optimizer))
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        fresh_warmup(grown, 4)
        step(model, grown.optimizer)
        with hold_old({free.get_parameter(name): new for name, new in masks.items()}):
            step(free, other)
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter - before[name], (free.get_parameter(name) - before[name]) / 4, atol=1e-6)


def test_gradients_of_a_pass_before_do_not_count() -> None:
    grown = before_growth(MAKERS["SGD"])
    assert grown.optimizer is not None
    ids = torch.arange(8)[None]
    grown.model(input_ids=ids, labels=ids).loss.backward()
    masks = grown.new_coordinates()
    with train_new_only(grown):
        for name, parameter in grown.model.named_parameters():
            assert parameter.grad is not None and not parameter.grad[~masks[name]].any(), name


def test_a_registered_module(registered: None) -> None:
    torch.manual_seed(0)
    module = Odd(OddConfig())
    grown = growth.widen(module, width=2, noise=0.5, optimizer=AdamW(module.parameters(), lr=1e-2))
    before = {name: bits(parameter) for name, parameter in grown.model.named_parameters()}
    assert grown.optimizer is not None
    fresh_warmup(grown, 2)
    with train_new_only(grown):
        output = grown.model(torch.arange(5)[None])
        (output if isinstance(output, Tensor) else output[0]).square().mean().backward()
        grown.optimizer.step()
    for name, new in grown.new_coordinates().items():
        moved = bits(grown.model.get_parameter(name)) != before[name]
        assert not moved[~new].any() and moved[new].any(), name


class Slow(Optimizer):
    """An optimizer around another one: after each step it goes half of the way back, and decays."""

    def __init__(self, inner: Optimizer) -> None:
        self.inner = inner
        super().__init__(inner.param_groups, {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        before = [p.clone() for group in self.param_groups for p in group["params"]]
        self.inner.step()
        for p, old in zip((p for group in self.param_groups for p in group["params"]), before, strict=True):
            p.lerp_(old, 0.5).mul_(0.99)


def test_an_optimizer_around_another() -> None:
    grown = growth.widen(llama(), width=2, noise=0.5)
    with train_new_only(grown):
        check_training(grown, Slow(MAKERS["SGD"](grown.model.parameters())))


def test_closures_and_sparse_gradients() -> None:
    torch.manual_seed(0)
    table = nn.Embedding(6, 4, sparse=True)
    new = torch.tensor([False, False, True, True]).expand(6, 4).clone()
    line = nn.Linear(4, 3)
    with hold_old({table.weight: new, line.weight: new[:3], line.bias: torch.tensor([True, True, True])}):
        start = [bits(parameter) for parameter in (table.weight, line.weight, line.bias)]
        lbfgs, sparse = LBFGS(line.parameters(), lr=0.1), SparseAdam([table.weight], lr=0.1)

        def closure() -> Tensor:
            lbfgs.zero_grad()
            loss: Tensor = line(table(torch.tensor([1, 2, 1]))).square().sum()
            loss.backward()
            return loss

        for _ in range(3):
            lbfgs.step(closure)
            sparse.step()
            assert table.weight.grad is not None and table.weight.grad.is_sparse
            table.weight.grad = None
        moved = [bits(p) != old for p, old in zip((table.weight, line.weight, line.bias), start, strict=True)]
    assert not moved[0][:, :2].any() and moved[0][1:3, 2:].all() and not moved[0][3:].any()
    assert not moved[1][:, :2].any() and moved[1][:, 2:].all() and moved[2].all()


def test_a_wholly_new_parameter_trains_freely() -> None:
    """A layer that was inserted, a head that was untied."""
    head = nn.Linear(4, 3)
    old = nn.Linear(4, 3)
    held = hold_old(
        {parameter: torch.full_like(parameter, True, dtype=torch.bool) for parameter in head.parameters()}
        | {parameter: torch.full_like(parameter, False, dtype=torch.bool) for parameter in old.parameters()}
    )
    assert all(parameter.requires_grad for parameter in head.parameters()) and not head.weight._backward_hooks
    assert not any(parameter.requires_grad for parameter in old.parameters())
    assert (held.new, held.weights, held.partly) == (15, 30, 0)
    held.remove()
    with pytest.raises(IllegalGrowthError, match="nothing new in this model trains"):
        hold_old({parameter: torch.zeros_like(parameter, dtype=torch.bool) for parameter in old.parameters()})
    assert all(parameter.requires_grad for parameter in old.parameters())


def test_a_model_that_nobody_uses_is_freed() -> None:
    grown = growth.widen(llama(), width=2)
    held: NewOnly | None = train_new_only(grown)
    optimizer = Adam(grown.model.parameters())
    step(grown.model, optimizer)
    gone = weakref.ref(grown.model.model.norm.weight)
    del grown, optimizer, held
    gc.collect()
    assert gone() is None


def test_trainer_resumes_in_a_new_process(tmp_path: Path) -> None:
    """Trainer makes its optimizer itself, after growth; loaded again, the masks come from the folder."""
    torch.manual_seed(1)
    MODELS["llama"]().save_pretrained(tmp_path / "small")
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", width=2, noise=1)

    def trained(out: str, **settings: Any) -> dict[str, Tensor]:
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "wide")
        with train_new_only(model, tmp_path / "wide"):
            run(model, tmp_path / out, weight_decay=0.5, max_grad_norm=0.1, gradient_accumulation_steps=2, **settings)
        return {name: parameter.detach() for name, parameter in model.named_parameters()}

    whole = trained("whole", steps=4, save=2)
    resumed = trained("resumed", steps=4, save=4, resume=tmp_path / "whole" / "checkpoint-2")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "wide")
    for name, new in growth.training.new_coordinates(model, tmp_path / "wide").items():
        start = model.get_parameter(name)
        assert torch.equal(bits(whole[name])[~new], bits(start)[~new]), name
        assert torch.equal(whole[name], resumed[name]), name
        assert not torch.equal(whole[name], start), name
