"""Growth of a stack, run by run, for `payoff.py`: `growth.widen` itself with real AdamW state in and out. Two ways
that growth does not offer are made here: noise scaled up beyond what weights hold, and padding with zeros."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from payoff_model import BETAS, DECAY, EPSILON, Moments, Settings, build, flat_of, program
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
        choices |= {"layers": large.layers, "insert": recipe.insert}
    if isinstance(large, Sparse):
        choices["experts"] = large.experts
    if recipe.copied:
        choices |= {"new_layers": "copied", "lossy": True}
    return growth.widen(
        model,
        optimizer=optimizer_of(model, states_of(stack, run), stack.step),
        hyper=recipe.hyper,  # type: ignore[arg-type]
        moments=recipe.moments,  # type: ignore[arg-type]
        symmetry=symmetry,
        seed=stack.seeds[run],
        **choices,
    )


class Made(NamedTuple):
    """A grown run: weights and moments, where coordinates are new, its optimizer's settings; all ``[weights]``."""

    moments: Moments
    new: Tensor
    settings: Settings


def grow(stack: Stack, large: Size, recipe: Recipe) -> Stack:
    """The stack of the larger models: step, batches, rates and curves go on. The stack given stays as it is."""
    made = [_made(stack, run, large, recipe) for run in range(len(stack.seeds))]
    device = stack.setting.device
    buffers = zip(*(run.moments for run in made), strict=True)
    moments = Moments(*(torch.stack(buffer).to(device) for buffer in buffers))
    settings = Settings(*(buffer.unsqueeze(0).to(device) for buffer in made[0].settings))
    faster = 1 + (recipe.new_rate - 1) * made[0].new.unsqueeze(0).to(device)
    return replace(stack.copy(), size=large, moments=moments, settings=settings._replace(rate=settings.rate * faster))


def _made(stack: Stack, run: int, large: Size, recipe: Recipe) -> Made:
    if recipe.shrink is not None:
        moments = _padded(stack, run, large, recipe.shrink)
        decayed = program(large, stack.setting).decayed[0].cpu()
        one = torch.ones_like(decayed)
        return Made(moments, torch.zeros_like(one), Settings(one, decayed, EPSILON * one, torch.zeros_like(one)))
    made = made_of(grown_run(stack, run, large, recipe, recipe.symmetry), stack.step)
    if recipe.louder != 1:
        without = flat_of(grown_run(stack, run, large, recipe, "none").model.parameters())
        moments = made.moments._replace(weights=without + recipe.louder * (made.moments.weights - without))
        made = made._replace(moments=moments)
    return made


def made_of(grown: growth.Grown[PreTrainedModel], step: int) -> Made:
    """What the grown model and its optimizer hold; a parameter without a state (of a new layer) starts one."""
    optimizer, weights = grown.optimizer, dict(grown.model.named_parameters())
    assert optimizer is not None
    group_of = {weight: group for group in optimizer.param_groups for weight in group["params"]}
    states = {weight: optimizer.state.get(weight, {}) for weight in weights.values()}

    def flat(values: Iterable[Tensor | float]) -> Tensor:
        pairs = zip(values, weights.values(), strict=True)
        return flat_of(torch.as_tensor(value).expand(weight.shape) for value, weight in pairs)

    first, second, steps = (
        flat(state.get(name, 0.0) for state in states.values()) for name in ("exp_avg", "exp_avg_sq", "step")
    )
    groups = [group_of[weight] for weight in weights.values()]  # made with a learning rate of 1
    decay = flat(group["lr"] * group["weight_decay"] / DECAY for group in groups)
    settings = Settings(flat(g["lr"] for g in groups), decay, flat(g["eps"] for g in groups), step - steps)
    new = grown.new_coordinates()
    masks = flat(new.get(name, 0.0) for name in weights)
    return Made(Moments(flat_of(weights.values()), first, second), masks, settings)


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
