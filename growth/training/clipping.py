"""How growth changes the global norm of the gradients, for gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from growth.arguments import check_kind
from growth.errors import IllegalGrowthError
from growth.hf.custom_modules import ModuleWrapper
from growth.hf.dtensors import whole
from growth.hf.inner_names import inner_name, parameters_of
from growth.hf.own_modules import in_wrapper
from growth.hf.tensor_names import to_disk
from growth.training.model import Grown
from growth.training.moments import state_plan, taken
from growth.training.wrappers import own_classes
from growth.weights.grow import grow_tensor


def clip_factor(grown: Grown[Any], gradients: Mapping[str, Tensor | None]) -> float:
    """The factor that growth puts on the global norm of the gradients.

    Multiply the threshold of gradient clipping by it, so that the grown model is clipped where the
    small one would be. Each old gradient entry is repeated with the gradient coefficients of its
    copies (`growth.algebra.roles`), so its square is multiplied by the sum of their squares. The
    factor on the whole norm therefore depends on how the norm is distributed over the parameters,
    which is why gradients are needed.

    The factor is exact unless some gradients are not determined by the small model. Where
    coordinates or layers start at zero, or a space carries its mean (layer norm, fractional ratios),
    it is a lower bound. With noise, a split, or more key/value heads it is an estimate, since copies
    that are read differently receive different gradients.

    Args:
        grown: the growth.
        gradients: of the *old* model, by parameter name; parameters without one may be None. Of a sharded
            one every rank gives its parts.

    Returns:
        Norm after growth over norm before; 1.0 if all gradients are 0.

    Raises:
        IllegalGrowthError: no gradient at all, or one that is not the old model's.

    Example:
        >>> loss.backward()
        >>> gradients = {name: p.grad for name, p in model.named_parameters()}
        >>> grown = growth.widen(model, width=2, optimizer=optimizer)
        >>> threshold = 1.0 * clip_factor(grown, gradients)
        >>> torch.nn.utils.clip_grad_norm_(grown.model.parameters(), threshold)
    """
    check_kind("grown", grown, Grown, "what growth.widen returned")
    check_kind("gradients", gradients, Mapping, "a dictionary of the old model's gradients by parameter name")
    for name, gradient in gradients.items():
        check_kind("the name of a gradient", name, str, "text")
        check_kind(f"the gradient of '{name}'", gradient, (Tensor, type(None)), "a tensor, or None")
    given = {
        name.removeprefix("_orig_mod."): gradient.detach()
        for name, gradient in gradients.items()
        if gradient is not None
    }
    if not given:
        raise IllegalGrowthError(
            "there are no gradients. Give those of the old model, after backward() and before zero_grad()."
        )
    with own_classes(grown.model):
        stock = in_wrapper(grown.model) or grown.model
        squares = [_squares(grown, stock, some) for some in taken(given)]
    before, after = (sum(each) for each in zip(*squares, strict=True))
    return math.sqrt(after / before) if before else 1.0


def _squares(grown: Grown[Any], stock: nn.Module, given: Mapping[str, Tensor]) -> tuple[float, float]:
    """The sums of the squares of some gradients, before and after growth."""
    before = after = 0.0
    known, given = parameters_of(stock), {inner_name(name): whole(gradient) for name, gradient in given.items()}
    on_disk: Mapping[str, Tensor] = given
    if isinstance(stock, PreTrainedModel) and not isinstance(stock, ModuleWrapper) and known.keys() >= given.keys():
        on_disk = to_disk(stock, given)
    extension = grown.plan.extension
    grows = {name: tensor.shape for name, tensor in grown.plan.tensors.items()}
    shapes = grows if extension is None else extension.shapes
    for name, gradient in on_disk.items():
        if name not in shapes or shapes[name] != tuple(gradient.shape):
            raise IllegalGrowthError(
                f"the gradient of '{name}', of shape {list(gradient.shape)}, is not one of the old model's. Give the "
                "gradients it had before it grew."
            )
        exact = gradient.double()
        before += float(exact.square().sum())
        for copy, value in ({name: exact} if extension is None else extension.state({name: exact}, 1)).items():
            plan = state_plan(grown.plan.tensors[copy], value, 1, "preserve", False)
            after += float(grow_tensor(value, plan).square().sum())
    return before, after
