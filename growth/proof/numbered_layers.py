"""Whether the layers of a class compute with their own number (GPT-2's
``scale_attn_by_inverse_layer_idx``): then a layer that moves up computes something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from growth.plan.plan import TOLERANCE
from growth.proof.outputs import forward

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
