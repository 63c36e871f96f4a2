"""Helpers of a training loop: the warm-up of new coordinates, stages, the threshold of clipping;
and the loss right after growth, on a real checkpoint and real text."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoModelForCausalLM, AutoTokenizer

import growth
from growth.errors import IllegalGrowthError
from growth.hf.tensor_names import to_disk
from growth.proof.float64 import exact_arithmetic
from growth.proof.inputs import random_inputs
from growth.proof.miniature import build_exact, loud
from growth.training import clipping
from growth.training.clipping import clip_factor
from growth.training.stages import staged
from growth.training.warmup import fresh_warmup
from support.custom_models import Odd, OddConfig
from support.families import VOCABULARY
from support.family_cases import MAIN, small_config
from support.optimizers import llama, no_twin, registered, step

__all__ = ["no_twin", "registered"]  # fixtures, the first for every test here

CLASS = {model_type: model_class for model_type, model_class, _ in MAIN}
EMBEDDED = Path(growth.__file__).parent / "assets" / "austen-llama"
Make = Callable[[Any], Optimizer]
MAKERS: dict[str, Make] = {
    "AdamW": lambda parameters: AdamW(parameters, lr=1e-2, weight_decay=0.1),
    "SGD": lambda parameters: SGD(parameters, lr=1e-1, momentum=0.9, nesterov=True),
}


def grown_pair(make: Make, **choices: Any) -> tuple[growth.Grown[Any], Optimizer]:
    model = llama()
    optimizer = make(model.parameters())
    step(model, optimizer, 2)
    grown = growth.widen(model, optimizer=optimizer, noise=0.2, **{"width": 2, **choices})
    assert grown.optimizer is not None
    return grown, grown.optimizer


@pytest.mark.parametrize(("name", "full"), [("AdamW", 1.0), ("SGD", 1.0), ("AdamW", 1.5), ("SGD", 0.5)])
def test_new_coordinates_move_by_their_part_and_old_ones_as_without(name: str, full: float) -> None:
    grown, optimizer = grown_pair(MAKERS[name])
    model = grown.model
    warmup = fresh_warmup(grown, 4, full)  # which ends by itself at 1, with hooks of others behind its own
    others = (optimizer.register_step_pre_hook(_nothing), optimizer.register_step_post_hook(_nothing))
    for number in range(1, 7):
        reference, other = copy.deepcopy((model, optimizer))
        other._optimizer_step_pre_hooks.clear()
        other._optimizer_step_post_hooks.clear()
        before = {key: value.detach().clone() for key, value in model.named_parameters()}
        step(model, optimizer)
        step(reference, other)
        rate = full * min(number / 4, 1.0)
        for key, free in reference.named_parameters():
            moved, wanted = model.get_parameter(key) - before[key], free - before[key]
            corner = tuple(slice(size) for size in grown.plan.tensors[key].shape)
            assert torch.equal(model.get_parameter(key)[corner], free[corner]), key
            if rate == 1.0 and full == 1.0:
                assert torch.equal(model.get_parameter(key), free)
            else:
                assert torch.allclose(moved, torch.where(_corner(moved, corner), wanted, rate * wanted), atol=1e-6)
                assert moved.shape == free[corner].shape or not torch.allclose(moved, wanted, rtol=0.1, atol=0)
    warmup.remove()
    hooks = (optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks)
    assert [[*each] for each in hooks] == [[other.id] for other in others]


def _nothing(*_: Any) -> None:
    """A hook of another library."""


def _corner(like: Tensor, corner: tuple[slice, ...]) -> Tensor:
    mask = torch.zeros_like(like, dtype=torch.bool)
    mask[corner] = True
    return mask


def test_a_warmup_can_be_ended() -> None:
    grown, optimizer = grown_pair(MAKERS["AdamW"])
    warmup = fresh_warmup(grown, 1000)
    warmup.remove()
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks


def test_a_warmup_of_experts_and_of_rotary_slots() -> None:
    with exact_arithmetic():
        model = build_exact(small_config("mixtral", "MixtralForCausalLM", {}))
        loud(model, 1)
        optimizer = SGD(model.parameters(), lr=1e-2)
        grown = growth.widen(model, width=2, attention="head-dim", optimizer=optimizer)
        assert grown.optimizer is not None
        fresh_warmup(grown, 10**9)
        before = to_disk(grown.model, {name: value.detach().clone() for name, value in grown.model.named_parameters()})
        step(grown.model, grown.optimizer)
        after = to_disk(grown.model, {name: value.detach() for name, value in grown.model.named_parameters()})
    for name, tensor in grown.plan.tensors.items():
        old = torch.tensor(True)
        for axis, d in enumerate(tensor.dimensions):
            chosen = torch.from_numpy(d.first_copies)
            assert int(chosen.sum()) == d.old
            old = old & chosen.reshape([-1 if i == axis else 1 for i in range(len(tensor.dimensions))])
        moved = (after[name] - before[name]).abs()
        assert not moved[~old.expand_as(moved)].numel() or float(moved[~old.expand_as(moved)].max()) < 1e-9, name
        assert float(moved[old.expand_as(moved)].max()) > 1e-9, name


def test_a_warmup_needs_an_optimizer_and_a_step() -> None:
    grown, _ = grown_pair(MAKERS["SGD"])
    with pytest.raises(IllegalGrowthError, match="at least 1, not 0"):
        fresh_warmup(grown, 0)
    for rate in (0, -1, math.inf, math.nan, "1.3", True):
        with pytest.raises(IllegalGrowthError, match=r"rate must be a number above 0, not .* Use 1\.3"):
            fresh_warmup(grown, 5, rate)  # type: ignore[arg-type]
    with pytest.raises(IllegalGrowthError, match="the grown optimizer"):
        fresh_warmup(growth.widen(llama(), width=2), 5)


def test_stages() -> None:
    model = llama()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    scheduler = LambdaLR(optimizer, lambda number: 0.9**number)
    seen = []

    def one(each: nn.Module, made: Optimizer, number: int) -> tuple[int, float]:
        step(each, made)
        return number, float(made.param_groups[0]["lr"])

    stages: dict[int, Any] = {2: {"width": 2}, 4: {"width": 1.5, "noise": 0.2}}
    for each, made, driven, (number, rate) in staged(
        model, optimizer, one, stages, 6, scheduler=scheduler, seed=3, hyper="keep"
    ):
        assert driven is not None and driven.last_epoch == number + 1 and driven.optimizer is made
        seen.append((number, each.config.hidden_size, rate))  # type: ignore[union-attr]
        assert all(parameter in made.state for parameter in each.parameters())
        assert {int(state["step"]) for state in made.state.values()} == {number + 1}
    assert [size for _, size, _ in seen] == [24, 24, 48, 48, 72, 72]
    assert [rate for _, _, rate in seen] == pytest.approx([1e-3 * 0.9**number for number in range(6)])
    with pytest.raises(IllegalGrowthError, match=r"^the stage at step 6 is never reached: the steps are 0 to 5"):
        next(staged(model, optimizer, one, {6: {"width": 2}}, 6))


NORMS: list[tuple[str, dict[str, Any], bool]] = [
    ("llama", {"width": 2}, True),
    ("llama", {"width": 3}, False),
    ("llama", {"width": 1.5}, True),
    ("gpt2", {"width": 2, "attention": "head-dim"}, True),
    ("bert", {"width": 3, "attention": "head-dim"}, False),
    ("t5", {"width": 2, "attention": "head-dim", "scaling": "orthogonal"}, True),
    ("mixtral", {"width": 2}, False),
]


def norm_ratio(model: Any, grown: growth.Grown[Any], names: set[str] | None = None) -> float:
    """The global gradient norm after growth over that before, as clipping sees them."""
    norms = []
    for each in (model, grown.model):
        each.zero_grad()
        logits = each(**random_inputs(each, VOCABULARY)).logits
        targets = torch.randint(VOCABULARY, logits.shape[:-1], generator=torch.Generator().manual_seed(5))
        cross_entropy(logits.flatten(0, -2), targets.flatten()).backward()
        norms.append(float(nn.utils.clip_grad_norm_(each.parameters(), 1e9)))
    return norms[1] / norms[0]


def gradients(model: nn.Module) -> dict[str, Tensor | None]:
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(("model_type", "choice", "tied"), NORMS, ids=str)
def test_the_threshold_of_clipping(model_type: str, choice: dict[str, Any], tied: bool) -> None:
    with exact_arithmetic():
        model = build_exact(small_config(model_type, CLASS[model_type], {}, tied))
        loud(model, 1)
        grown = growth.widen(model, symmetry="none", **choice)
        ratio = norm_ratio(model, grown)
        assert clip_factor(grown, gradients(model)) == pytest.approx(ratio, rel=1e-9)
        assert abs(ratio - 1) > 0.01


@pytest.mark.parametrize(
    ("model_type", "choice"), [("llama", {"width": 2, "attention": "head-dim"}), ("gpt2", {"width": 1.5})], ids=str
)
def test_the_threshold_is_a_lower_bound_where_gradients_are_not_determined(
    model_type: str, choice: dict[str, Any]
) -> None:
    with exact_arithmetic():
        model = build_exact(small_config(model_type, CLASS[model_type], {}))
        loud(model, 1)
        grown = growth.widen(model, symmetry="none", **choice)
        ratio = norm_ratio(model, grown)
        assert 0.5 * ratio < clip_factor(grown, gradients(model)) < ratio * (1 - 1e-6)


def test_the_threshold_is_an_estimate_where_copies_differ() -> None:
    """Measured: 1.7 %."""
    with exact_arithmetic():
        model = build_exact(small_config("llama", CLASS["llama"], {}))
        loud(model, 1)
        grown = growth.widen(model, width=3, noise=0.3)
        ratio = norm_ratio(model, grown)
        assert 1e-3 < abs(clip_factor(grown, gradients(model)) / ratio - 1) < 0.05


def test_a_wrong_threshold_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = clipping.state_plan
    monkeypatch.setattr(clipping, "state_plan", lambda tensor, value, degree, *rest: right(tensor, value, 2, *rest))
    with pytest.raises(AssertionError):
        test_the_threshold_of_clipping("llama", {"width": 2}, True)


@pytest.mark.usefixtures("registered")
def test_the_threshold_of_a_registered_module() -> None:
    with exact_arithmetic():
        torch.manual_seed(0)
        model = Odd(OddConfig()).double()
        loud(model)  # type: ignore[arg-type]
        grown = growth.widen(model, width=3, symmetry="none")
        norms = []
        for each in (model, grown.model):
            each(torch.arange(10)[None]).logits.square().mean().backward()
            norms.append(float(nn.utils.clip_grad_norm_(each.parameters(), 1e9)))
        assert clip_factor(grown, gradients(model)) == pytest.approx(norms[1] / norms[0], rel=1e-9)
        compiled = {f"_orig_mod.{name}": gradient for name, gradient in gradients(model).items()}
        assert clip_factor(grown, compiled) == clip_factor(grown, gradients(model))
        with pytest.raises(IllegalGrowthError, match=r"^there are no gradients. Give those of the old model"):
            clip_factor(grown, {name: None for name in gradients(model)})
        for wrong in (gradients(grown.model), {"nowhere": torch.ones(2)}):
            with pytest.raises(IllegalGrowthError, match=r"is not one of the old model's. Give the gradients"):
                clip_factor(grown, wrong)


BATCH, LENGTH, STEPS = 8, 64, 50


def text_batch(tokens: Tensor, number: int) -> Tensor:
    starts = torch.randint(len(tokens) - LENGTH, (BATCH,), generator=torch.Generator().manual_seed(number))
    return torch.stack([tokens[start : start + LENGTH] for start in starts])


def text_losses(model: Any, optimizer: Optimizer, tokens: Tensor, steps: int) -> list[float]:
    losses = []
    for number in range(steps):
        batch = text_batch(tokens, number)
        optimizer.zero_grad()
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.slow
@pytest.mark.parametrize("symmetry", ["noise:0.1", "noise:1", "split"])
def test_no_spike_on_real_text(symmetry: str) -> None:
    """The embedded checkpoint trains, grows, and trains on beside the small one, with the same
    batches.

    At the first step the losses differ by at most the small model's rounding floor (float32 against
    float64), or 8 ulps. After that, on no step of the next 50 may the wide model's loss exceed the
    small one's by more than one standard deviation of the small model's loss from step to step."""
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
    tokens = torch.tensor(tokenizer((EMBEDDED.parent / "excerpt.txt").read_text(encoding="utf-8"))["input_ids"])
    model = AutoModelForCausalLM.from_pretrained(EMBEDDED, dtype=torch.float32).train()
    optimizer = AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    text_losses(model, optimizer, tokens, 20)
    grown = growth.widen(model, width=2, optimizer=optimizer, symmetry=symmetry)
    assert grown.optimizer is not None
    with exact_arithmetic(), torch.no_grad():
        batch = text_batch(tokens, 0)
        exact = copy.deepcopy(model).double()(input_ids=batch, labels=batch).loss.item()
    small, wide = (
        text_losses(model, optimizer, tokens, STEPS),
        text_losses(grown.model, grown.optimizer, tokens, STEPS),
    )
    floor = max(abs(small[0] - exact), 8 * torch.finfo(torch.float32).eps * small[0])
    assert abs(wide[0] - small[0]) <= floor
    noise = float(torch.tensor(small).diff().std())
    above = max(one - other for one, other in zip(wide, small, strict=True))
    assert above <= noise, (above, noise)
    assert abs(wide[-1] - small[-1]) > 10 * floor, "the copies are no longer one"
