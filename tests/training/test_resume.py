"""A script that restarts after growth: the optimizer it makes for the small model, split as the
saved state says, continues bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch.optim import SGD, Adafactor, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR
from transformers import LlamaForCausalLM

import growth
from growth.errors import IllegalGrowthError, UnsupportedModelError
from growth.training.optimizer import ORIGIN
from growth.training.resume import resume
from support.custom_models import Odd, OddConfig
from support.optimizers import llama, no_twin, registered, step

__all__ = ["no_twin", "registered"]  # fixtures, the first for every test here


def groups(model: Any, named: bool = False) -> list[dict[str, Any]]:
    """Matrices with weight decay, the rest without, as most scripts have it."""
    parameters = list(model.named_parameters())
    kept = [
        [(name, p) if named else p for name, p in parameters if (p.ndim > 1) is matrix] for matrix in (True, False)
    ]
    return [{"params": each, "weight_decay": decay} for each, decay in zip(kept, (0.1, 0.0), strict=True)]


MAKERS: dict[str, Any] = {
    "AdamW": lambda model: AdamW(groups(model), lr=1e-2, eps=1e-4),
    "named": lambda model: AdamW(groups(model, named=True), lr=1e-2),
    "SGD": lambda model: SGD(groups(model), lr=1e-1, momentum=0.9),
    "Adafactor": lambda model: Adafactor(groups(model), lr=1e-2),
}


def schedule(optimizer: Optimizer) -> CosineAnnealingLR:
    return CosineAnnealingLR(optimizer, 30, eta_min=1e-3)


def go_on(model: Any, optimizer: Any, scheduler: Any) -> list[torch.Tensor]:
    for _ in range(4):
        step(model, optimizer)
        scheduler.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(left, right) for left, right in zip(one, other, strict=True))


STAGES: dict[str, list[dict[str, Any]]] = {
    "once": [{"width": 2}],
    "twice": [{"width": 2}, {"width": 2}],
    "deeper, then deeper and wider": [{"layers": 3}, {"layers": 5, "width": 2, "insert": "after:0,2"}],
}


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        pytest.param(name, stages, marks=[pytest.mark.slow] if name != "AdamW" and stages == [*STAGES][-1] else [])
        for name in MAKERS
        for stages in STAGES
    ],
)
def test_training_resumes_after_growth(name: str, stages: str, tmp_path: Path) -> None:
    model: Any = llama(tied=False)
    optimizer: Any = MAKERS[name](model)
    scheduler: Any = schedule(optimizer)
    for choices in STAGES[stages]:
        go_on(model, optimizer, scheduler)
        grown = growth.widen(model, **choices, noise=0.3, optimizer=optimizer, scheduler=scheduler)
        model, optimizer, scheduler = grown.model, grown.optimizer, grown.scheduler
    go_on(model, optimizer, scheduler)
    model.save_pretrained(tmp_path)
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, tmp_path / "training.pt")
    reached, rates = go_on(model, optimizer, scheduler), scheduler.get_last_lr()

    loaded = LlamaForCausalLM.from_pretrained(tmp_path)
    saved = torch.load(tmp_path / "training.pt", weights_only=True)
    made = MAKERS[name](loaded)
    with pytest.raises(ValueError, match="parameter group"):
        made.load_state_dict(saved["optimizer"])
    again, driven = resume(loaded, made, saved["optimizer"], schedule(made))
    assert type(again) is type(made) and driven is not None
    driven.load_state_dict(saved["scheduler"])
    assert same(go_on(loaded, again, driven), reached) and driven.get_last_lr() == rates


def test_what_accelerate_saved_resumes(tmp_path: Path) -> None:
    accelerator = Accelerator(cpu=True)
    model = llama()
    optimizer = MAKERS["AdamW"](model)
    step(model, optimizer)
    grown = growth.widen(model, width=2, optimizer=optimizer, scheduler=schedule(optimizer))
    wide: Any = accelerator.prepare(grown.model, grown.optimizer, grown.scheduler)
    go_on(*wide)
    accelerator.save_state(str(tmp_path))
    reached = go_on(*wide)
    accelerator.free_memory()

    loaded = growth.widen(llama(), width=2).model
    made = MAKERS["AdamW"](loaded)
    split = resume(loaded, made, torch.load(tmp_path / "optimizer.bin"), schedule(made))
    again: Any = accelerator.prepare(loaded, *split)
    accelerator.load_state(str(tmp_path))
    assert same(go_on(*again), reached)


def test_what_cannot_resume_is_refused() -> None:
    model = llama(tied=False)
    optimizer = MAKERS["AdamW"](model)
    step(model, optimizer)
    grown = growth.widen(model, width=2, optimizer=optimizer)
    assert grown.optimizer is not None
    with pytest.raises(
        IllegalGrowthError, match=r"were not split by a growth. Load it with optimizer.load_state_dict\(state\)"
    ):
        resume(model, optimizer, optimizer.state_dict())
    state = grown.optimizer.state_dict()

    def refused(
        match: str, model: Any, made: Any, state: Any = state, scheduler: Any = None, error: Any = IllegalGrowthError
    ) -> None:
        with pytest.raises(error, match=match):
            resume(model, made, state, scheduler)

    wide = grown.model
    refused(
        r"^'model\..*' had shape \[.*\] .*, but does not exist in this Linear. Give the model that was saved",
        torch.nn.Linear(2, 2),
        optimizer,
    )
    refused(
        r"^'model\..*' had shape \[.*48.*\] .*, but has shape \[.*24.*\] in this LlamaForCausalLM", model, optimizer
    )
    others = "^group 0 of this optimizer does not hold the parameters that group 0"
    refused(others, wide, AdamW(wide.parameters()))
    refused(others, wide, AdamW(groups(wide)[::-1]))
    refused(others, wide, AdamW([wide.lm_head.weight]))
    refused("^group 1 of this optimizer does not hold the parameters", wide, AdamW(groups(wide)[:1]))
    refused(others, wide, MAKERS["AdamW"](model))
    refused("were not split", wide, MAKERS["AdamW"](wide), {})
    made = MAKERS["AdamW"](wide)
    refused("drives another optimizer", wide, made, scheduler=schedule(optimizer), error=UnsupportedModelError)
    refused("wraps the AdamW", wide, Accelerator(cpu=True).prepare(made), error=UnsupportedModelError)
    grown.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
    refused("^group 4 of this state was added after the growth", wide, made, grown.optimizer.state_dict())
    kept = growth.widen(model, width=2, optimizer=optimizer, hyper="keep")
    assert kept.optimizer is not None
    MAKERS["AdamW"](kept.model).load_state_dict(kept.optimizer.state_dict())


def test_a_group_added_between_two_growths_is_restored_as_one() -> None:
    model = llama(tied=False)
    optimizer = AdamW([p for p in model.parameters() if p is not model.lm_head.weight], lr=1e-2)
    step(model, optimizer)
    grown = growth.widen(model, width=2, optimizer=optimizer)
    assert grown.optimizer is not None
    grown.optimizer.add_param_group({"params": [grown.model.lm_head.weight], "lr": 1e-3})
    step(grown.model, grown.optimizer)
    again = growth.widen(grown.model, width=2, optimizer=grown.optimizer)
    assert again.optimizer is not None
    last = again.model.lm_head.weight
    made = AdamW([{"params": [p for p in again.model.parameters() if p is not last]}, {"params": [last]}])
    resumed, _ = resume(again.model, made, again.optimizer.state_dict())
    assert [group["lr"] for group in resumed.param_groups] == [group["lr"] for group in again.optimizer.param_groups]
    for parameter in again.model.parameters():
        assert torch.equal(resumed.state[parameter]["exp_avg"], again.optimizer.state[parameter]["exp_avg"])


def test_growth_with_kept_settings_after_one_with_preserved_ones_resumes() -> None:
    model = llama(tied=False)
    optimizer = MAKERS["AdamW"](model)
    step(model, optimizer)
    grown = growth.widen(model, width=2, optimizer=optimizer)
    again = growth.widen(grown.model, width=2, optimizer=grown.optimizer, hyper="keep")
    assert again.optimizer is not None
    state = again.optimizer.state_dict()
    resumed, _ = resume(again.model, MAKERS["AdamW"](again.model), state)
    assert str(resumed.state_dict()["param_groups"]) == str(state["param_groups"])
    for group, earlier in zip(state["param_groups"], grown.optimizer.param_groups, strict=True):  # type: ignore[union-attr]
        group[ORIGIN] = earlier[ORIGIN]  # the shapes of the first growth
    with pytest.raises(IllegalGrowthError, match=r"had shape \[.*48.*\] .*, but has shape \[.*96.*\]"):
        resume(again.model, MAKERS["AdamW"](again.model), state)


@pytest.mark.usefixtures("registered")
def test_a_registered_module_resumes() -> None:
    model = Odd(OddConfig())
    optimizer = AdamW(model.parameters(), lr=1e-2)
    grown = growth.widen(model, width=2, optimizer=optimizer)
    assert grown.optimizer is not None
    resumed, _ = resume(grown.model, AdamW(grown.model.parameters(), lr=1e-2), grown.optimizer.state_dict())
    assert [group["lr"] for group in resumed.param_groups] == [group["lr"] for group in grown.optimizer.param_groups]


def test_a_schedule_without_its_groups_is_seen() -> None:
    """A cosine has one floor per group after growth: a plain one that loads its state gives other
    rates."""
    model = llama(tied=False)
    optimizer = AdamW(model.parameters(), lr=1e-2)
    grown = growth.widen(model, width=4, optimizer=optimizer, scheduler=CosineAnnealingLR(optimizer, 4, eta_min=5e-3))
    assert grown.optimizer is not None and grown.scheduler is not None
    state = grown.scheduler.state_dict()
    made = AdamW(grown.model.parameters(), lr=1e-2)
    again, driven = resume(grown.model, made, grown.optimizer.state_dict(), CosineAnnealingLR(made, 4, eta_min=5e-3))
    plain, _ = resume(grown.model, made, grown.optimizer.state_dict())
    floorless = CosineAnnealingLR(plain, 4, eta_min=5e-3)
    assert driven is not None
    for each in (driven, floorless):
        each.load_state_dict(state)
    for _ in range(4):
        for stepped, each in ((grown.optimizer, grown.scheduler), (again, driven), (plain, floorless)):
            stepped.step()
            each.step()
    assert driven.get_last_lr() == grown.scheduler.get_last_lr() != floorless.get_last_lr()
