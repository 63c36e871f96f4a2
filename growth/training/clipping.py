"""By how much the global norm of the gradients changes with a growth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from growth.errors import IllegalGrowthError
from growth.hf.custom_modules import ModuleWrapper, as_transformers
from growth.hf.tensor_names import to_disk
from growth.training.model import Grown
from growth.training.moments import state_plan
from growth.weights.grow import grow_tensor


def clip_factor(grown: Grown[Any], gradients: Mapping[str, Tensor | None]) -> float:
    """By how much the global norm of the gradients changes with the growth: multiply the threshold
    of clipping by it.

    A parameter's gradient is repeated with coefficients g (`growth.algebra.roles`), so its square
    sum is that of the old one times the sum of g**2 over copies, at each weight. What that makes of
    the whole depends on how the norm is shared among parameters, hence on the gradients. What is
    born silent, and what writes a space that carries its mean, receives more than the coefficients
    say: there it is a lower bound. Noise, or shares that vary, make it an estimate: copies that are
    read differently receive different gradients.

    Args:
        grown: the growth.
        gradients: of the old model, by parameter name: ``{name: p.grad for name, p in
            model.named_parameters()}``.

    Raises:
        IllegalGrowthError: where there is none, or one of another model.
    """
    stock = as_transformers(grown.model) or grown.model
    given = {
        name.removeprefix("_orig_mod."): gradient.detach()
        for name, gradient in gradients.items()
        if gradient is not None
    }
    if not given:
        raise IllegalGrowthError(
            "no gradient is there. Give those of the old model, after backward() and before zero_grad()."
        )
    before = after = 0.0
    known = dict(stock.named_parameters())
    on_disk = given if isinstance(stock, ModuleWrapper) or not known.keys() >= given.keys() else to_disk(stock, given)
    for name, gradient in on_disk.items():
        if name not in grown.plan.tensors or grown.plan.tensors[name].shape != tuple(gradient.shape):
            raise IllegalGrowthError(
                f"the gradient of '{name}', {list(gradient.shape)}, is none of the old model's. Give those it had."
            )
        exact = gradient.double()
        before += float(exact.square().sum())
        after += float(
            grow_tensor(exact, state_plan(grown.plan.tensors[name], exact, 1, "preserve", False)).square().sum()
        )
    return math.sqrt(after / before) if before else 1.0
