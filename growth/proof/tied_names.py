"""Two names of one tensor: a plan must make the same of both."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from transformers import PreTrainedModel

from growth.errors import ProofError
from growth.hf.expected_tensors import class_tensors
from growth.plan.plan import TOLERANCE, Plan


def check_ties(grown: PreTrainedModel, grow: Callable[[str], Tensor], plan: Plan) -> None:
    """Refuse a plan by which two names of one tensor would grow into two: a file keeps one of them, and the twin has
    loaded the other.

    Raises:
        ProofError: naming both.
    """
    _, ties = class_tensors(grown.config, type(grown))
    for name, other in ties.items():
        if name in plan.tensors and other in plan.tensors:
            one, two = grow(name), grow(other)
            if one.shape != two.shape or not float((one - two).abs().max()) <= TOLERANCE:
                raise ProofError(
                    f"'{name}' and '{other}' are one tensor of a {type(grown).__name__}, and would grow into two, so "
                    "nothing was written. If you wrote the declaration, give both the same coefficients. Else please "
                    "report this config and these options."
                )
