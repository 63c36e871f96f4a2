"""Two names of one tensor: a plan must make the same of both."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor
from transformers import PreTrainedModel

from growth.hf.expected_tensors import class_tensors
from growth.plan.plan import Plan
from growth.plan.symmetry import UNBROKEN
from growth.weights.grow import grow_tensor


def names_apart(grown: PreTrainedModel, read: Callable[[str], Tensor], plan: Plan) -> float:
    """How far two names of one tensor grow apart, noise aside: a file keeps one of them, and the twin has loaded the
    other, so that it sees no mistake in the first.

    Args:
        grown: the grown twin, whose class says which names are tied.
        read: the twin's tensors by name, as they are widened.
        plan: how it grows.

    Returns:
        The largest difference; infinity where shapes differ.

    Example:
        >>> names_apart(grown, weights.__getitem__, plan)  # of a Llama whose embedding and head are tied
        0.0
    """
    apart = 0.0
    for name, other in class_tensors(grown.config, type(grown))[1].items():
        if name in plan.tensors and other in plan.tensors:
            one, two = (
                grow_tensor(read(each), replace(plan.tensors[each], symmetry=UNBROKEN)) for each in (name, other)
            )
            same = one.shape == two.shape
            apart = max(apart, float((one - two).abs().max()) if same else math.inf)
    return apart
