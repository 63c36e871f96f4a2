"""What the twin of a model with more layers is asked besides: whether its layers compute with their
own number, so that one that moves up computes something else; and, of layers that are copies, whether
they are widened exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from growth.architectures.sizes import Sizes
from growth.errors import ProofError
from growth.extension.request import Request
from growth.plan.build import build_plan
from growth.plan.plan import TOLERANCE, Plan
from growth.proof.outputs import forward, largest_difference

_NUMBERS = ("layer_idx", "layer_id", "layer_number", "layer_index")


def computes_with_numbers(twin: PreTrainedModel, inputs: Mapping[str, Tensor]) -> bool:
    """Whether the outputs of a miniature change if every layer is told a number that is one higher.
    It is left as it was. Without a cache, a number is otherwise of no use to a layer.

    Args:
        twin: in float64.
        inputs: keyword arguments of its ``forward``.
    """
    before = forward(twin, inputs)
    _shift(twin, 1)
    try:
        after = forward(twin, inputs)
    finally:
        _shift(twin, -1)
    return any(not float((after[name] - value).abs().max()) <= TOLERANCE for name, value in before.items())


def _shift(model: PreTrainedModel, by: int) -> None:
    for module in model.modules():
        held: dict[str, Any] = vars(module)
        for name in _NUMBERS:
            if type(held.get(name)) is int:
                held[name] += by


def check_widening(
    deep: PreTrainedModel,
    grown: PreTrainedModel,
    plan: Plan,
    in_ratio_of: tuple[Sizes, Sizes],
    inputs: Mapping[str, Tensor],
) -> None:
    """Compare a grown miniature with one that only has the new layers.

    Args:
        deep, grown: in float64.
        plan: of the growth of the miniature.
        in_ratio_of: the sizes that the real model is widened from and to.
        inputs: keyword arguments of ``forward``.

    Raises:
        ProofError: if they differ, and not by a rotary growth that the caller accepted.
    """
    shapes = {name: tensor.shape for name, tensor in plan.tensors.items()}
    wider = build_plan(plan.extended, shapes, plan.options, plan.declared, in_ratio_of=in_ratio_of, extends=Request())
    difference = largest_difference(forward(deep, inputs), forward(grown, inputs), wider)
    if not difference <= TOLERANCE and not wider.lossy:
        raise ProofError(
            f"the twin of this {plan.model_class.__name__} differs by {difference:.3g} from one with the same layers "
            f"that is not wider (tolerance {TOLERANCE:g}), so nothing was written. Please report these options."
        )
