"""Growth of a stack, run by run, for `payoff.py`: `growth.widen` itself with real AdamW state in and out. Two ways
that growth does not offer are made here: noise of more than 1, and padding with zeros."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from payoff_model import BETAS, DECAY, EPSILON, Moments, build, flat_of, program
from payoff_plan import Recipe, Size, Sparse
from payoff_stack import Stack
from torch import Tensor, nn
from torch.optim import AdamW
from transformers import PreTrainedModel

import growth


def optimizer_of(model: nn.Module, states: tuple[Moments, ...] | None, step: int) -> AdamW:
    """As the stack steps: decay on matrices alone. ``states``: of each parameter, in shape."""
    parameters = list(model.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [weight for weight in parameters if weight.ndim > 1], "weight_decay": DECAY},
        {"params": [weight for weight in parameters if weight.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = AdamW(groups, lr=1.0, betas=BETAS, eps=EPSILON)
    for weight, state in zip(parameters, states or (), strict=states is not None):
        first, second = (moment.reshape(weight.shape).clone() for moment in state[1:])
        optimizer.state[weight] = {"step": torch.tensor(float(step)), "exp_avg": first, "exp_avg_sq": second}
    return optimizer


def states_of(stack: Stack, run: int) -> tuple[Moments, ...]:
    return tuple(
        Moments(*parts) for parts in zip(*(stack.parts(buffer[run]) for buffer in stack.moments), strict=True)
    )


def grown_run(stack: Stack, run: int, large: Size, recipe: Recipe, symmetry: str) -> growth.Grown[PreTrainedModel]:
    """One run, by `growth.widen`."""
    model = stack.model(run)
    choices: dict[str, Any] = {}
    if large.width != stack.size.width:
        choices["width"] = large.width / stack.size.width
    if large.layers != stack.size.layers:
        choices["layers"] = large.layers
    if isinstance(large, Sparse):
        choices["experts"] = large.experts
    if recipe.copied:
        choices |= {"new_layers": "copied", "lossy": True}
    return growth.widen(
        model,
        optimizer=optimizer_of(model, states_of(stack, run), stack.step),
        hyper="keep",
        moments=recipe.moments,  # type: ignore[arg-type]
        symmetry=symmetry,
        seed=stack.seeds[run],
        **choices,
    )


class Made(NamedTuple):
    """A grown run: weights and moments, where coordinates are new, and how many steps each optimizer state has had;
    ``[weights]`` each."""

    moments: Moments
    new: Tensor
    steps: Tensor


def grow(stack: Stack, large: Size, recipe: Recipe) -> Stack:
    """The stack of the larger models: step, batches, rates and curves go on. The stack given stays as it is."""
    made = [_made(stack, run, large, recipe) for run in range(len(stack.seeds))]
    device = stack.setting.device
    buffers = zip(*(run.moments for run in made), strict=True)
    moments = Moments(*(torch.stack(buffer).to(device) for buffer in buffers))
    rate, born = 1 + (recipe.new_rate - 1) * made[0].new, stack.step - made[0].steps
    return replace(
        stack.copy(), size=large, moments=moments, rate=rate.unsqueeze(0).to(device), born=born.unsqueeze(0).to(device)
    )


def _made(stack: Stack, run: int, large: Size, recipe: Recipe) -> Made:
    if recipe.shrink is not None:
        moments = _padded(stack, run, large, recipe.shrink)
        return Made(moments, torch.zeros_like(moments.weights), torch.full_like(moments.weights, stack.step))
    noise = float(recipe.symmetry.removeprefix("noise:")) if recipe.symmetry.startswith("noise:") else 0.0
    made = made_of(grown_run(stack, run, large, recipe, "noise:1" if noise > 1 else recipe.symmetry))
    if noise > 1:
        without = flat_of(grown_run(stack, run, large, recipe, "none").model.parameters())
        moments = made.moments._replace(weights=without + noise * (made.moments.weights - without))
        made = made._replace(moments=moments)
    return made


def made_of(grown: growth.Grown[PreTrainedModel]) -> Made:
    """What the grown model and its optimizer hold; a parameter without a state (of a new layer) starts one."""
    optimizer = grown.optimizer
    assert optimizer is not None and all(group["lr"] == 1.0 for group in optimizer.param_groups)
    named, new = dict(grown.model.named_parameters()), grown.new_coordinates()
    states = [optimizer.state.get(weight, {}) for weight in named.values()]
    first, second, steps = (
        flat_of(
            state.get(name, torch.zeros(())).expand(weight.shape)
            for state, weight in zip(states, named.values(), strict=True)
        )
        for name in ("exp_avg", "exp_avg_sq", "step")
    )
    masks = flat_of(new.get(name, torch.tensor(False)).expand_as(weight) for name, weight in named.items())
    return Made(Moments(flat_of(named.values()), first, second), masks, steps)


def _padded(stack: Stack, run: int, large: Size, shrink: float) -> Moments:
    """``shrink`` times the small weights, padded with zeros, plus initial weights of the large model; gains of norms
    are ``shrink`` times the old ones plus the rest of 1, and 1 where they are new. Moments are padded with zeros."""
    torch.manual_seed(10_000 + stack.seeds[run])
    model = build(program(large, stack.setting).config)
    padded: list[Moments] = []
    for weight, state in zip(model.parameters(), states_of(stack, run), strict=True):
        shape = program(stack.size, stack.setting).shapes
        old = list(shape.values())[len(padded)]
        corner = tuple(slice(length) for length in old)
        fresh = weight.detach().clone()
        fresh[corner] = shrink * state.weights.view(old) + (1.0 if len(old) > 1 else 1 - shrink) * fresh[corner]
        first, second = torch.zeros_like(fresh), torch.zeros_like(fresh)
        first[corner], second[corner] = state.first.view(old), state.second.view(old)
        padded.append(Moments(fresh, first, second))
    return Moments(*(flat_of(buffers) for buffers in zip(*padded, strict=True)))
