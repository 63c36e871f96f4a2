"""What a growth costs in precision, predicted before a weight is read.

A new weight is an old one times a coefficient, rounded once to its dtype. If the coefficient is a
power of two (or 0) and the dtype is no coarser than the source's, nothing is rounded: the tensor
holds the old weights bit for bit. Any other coefficient moves each weight by at most half an ulp.

How much is that in the mean? The ulp of a weight is eps times the power of two p below it, and the
error is evenly spread within an ulp, so its mean square is (eps * p)**2 / 12. Weights evenly spread
between p and 2p have a mean square of 7/3 p**2. So

    RMS of rounding / RMS of weights = eps * sqrt(3 / 7 / 12) = 0.19 eps,

times the root of the share of the weights' square that is rounded at all.

Example: a float32 Llama grown to twice its width rounds nothing. Grown to 1.5 times, half of the
residual stream has two copies, written with 1, and half has one, written with sqrt(2)
(`growth.algebra.laws.RMSNorm`): of what writes the stream, those weights round.

Breaking symmetry adds nothing: copies that differ add up to the last bit
(`growth.weights.exact_sums`)."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from growth.algebra.attention_laws import Frequencies
from growth.algebra.dimensions import Dimension
from growth.algebra.maps import Floats, powers_of_two
from growth.errors import GrowthError
from growth.hf.dtypes import FLOATS, dtype_name
from growth.plan.build import build_plan
from growth.plan.options import Options
from growth.plan.plan import Plan
from growth.plan.tensor_plan import TensorPlan

PER_EPS = math.sqrt(3 / 7 / 12)
"""RMS of rounding over RMS of weights, in units of eps."""


@dataclass(frozen=True)
class Exactness:
    """What a growth rounds if its result is held in one dtype.

    Args:
        dtype: name of the dtype, or ``as stored`` if each tensor keeps its own.
        rounding: tensor -> RMS of its rounding errors over RMS of its weights; 0 where it is bit for
            bit what it was.
        remedies: options of the command line under each of which nothing would round; empty if
            nothing does, or if no single one helps.
    """

    dtype: str
    rounding: Mapping[str, float]
    remedies: tuple[str, ...] = ()

    @property
    def rounded(self) -> dict[str, float]:
        """The tensors that round."""
        return {name: rms for name, rms in self.rounding.items() if rms}

    @property
    def largest(self) -> float:
        """The rounding of the tensor that rounds most; 0 if none does."""
        return max(self.rounding.values(), default=0.0)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, the tensors that do not round only counted."""
        return {
            "dtype": self.dtype,
            "exact": len(self.rounding) - len(self.rounded),
            "rounded": len(self.rounded),
            "largest": self.largest,
            "choices": list(self.remedies),
        }


def predict(plan: Plan, dtype: torch.dtype | None = None) -> Exactness:
    """What a plan rounds. Reads no weight.

    Args:
        plan: the plan.
        dtype: of the result; None to keep each tensor's own.

    Example:
        >>> import growth
        >>> from transformers import LlamaConfig
        >>> predict(growth.plan_widening(LlamaConfig(num_hidden_layers=1), width=2)).rounded
        {}
    """
    rounding = dict(_rounding(plan, dtype))
    found = Exactness("as stored" if dtype is None else dtype_name(dtype), rounding)
    return replace(found, remedies=_remedies(plan, dtype)) if found.rounded else found


def _rounding(plan: Plan, dtype: torch.dtype | None) -> Iterator[tuple[str, float]]:
    """(name, RMS of rounding over RMS of weights) of each tensor: one computation for all that grow
    alike, such as the experts of a layer."""
    held, result = plan.source_dtypes, result_dtypes(plan, dtype)
    known: dict[Hashable, float] = {}
    for name, tensor in plan.tensors.items():
        kind = (tensor.dimensions, tensor.symmetry, tensor.unchanged, held[name], result[name])
        if kind not in known:
            known[kind] = relative_rounding(tensor, held[name], result[name])
        yield name, known[kind]


def relative_rounding(tensor: TensorPlan, held: torch.dtype, result: torch.dtype) -> float:
    """RMS of rounding errors over RMS of weights of one tensor.

    Args:
        tensor: its plan.
        held: the dtype of the source.
        result: the dtype of the result. If it is coarser, every weight rounds.
    """
    if held not in FLOATS or (tensor.unchanged and held == result):
        return 0.0
    share = 1.0 if torch.finfo(result).eps > torch.finfo(held).eps else _rounding_share(tensor)
    return float(PER_EPS * torch.finfo(result).eps * share**0.5)


def result_dtypes(plan: Plan, wanted: torch.dtype | None) -> dict[str, torch.dtype]:
    """The dtype of each tensor of the result: ``wanted``, except for tensors that never convert:
    integer buffers, rotary frequency tables, and modules the class keeps in float32
    (``_keep_in_fp32_modules``). None keeps all as they are."""
    held = plan.source_dtypes
    return {
        name: wanted if wanted and _converts(plan, name, held[name], wanted) else held[name] for name in plan.tensors
    }


def _converts(plan: Plan, name: str, held: torch.dtype, wanted: torch.dtype) -> bool:
    spaces = {space for role in plan.tensors[name].roles for space in role.spaces()}
    if held not in FLOATS or any(isinstance(plan.architecture.laws[space], Frequencies) for space in spaces):
        return False
    kept = {*(plan.model_class._keep_in_fp32_modules_strict or ())}
    if wanted is torch.float16:  # what overflows there, and does not in bfloat16
        kept |= {*(plan.model_class._keep_in_fp32_modules or ())}
    return torch.finfo(wanted).bits >= torch.finfo(held).bits or not kept & set(name.split("."))


def _rounding_share(tensor: TensorPlan) -> float:
    """The share of the weights' square that is scaled by another coefficient than a power of two.

    The coefficient of a weight is the product over dimensions. Dimensions with one coefficient for
    all their coordinates are multiplied first: 1/sqrt(2) along two of them is 1/2, which does not
    round. The others count as rounded wherever their own coefficient is no power of two."""
    if tensor.exact or 0 in tensor.shape:
        return 0.0
    if any(d.shift is not None for d in tensor.dimensions):
        return 1.0
    if tensor.symmetry.breaks and tensor.exact_sum_axis is None:
        return 1.0
    exact, uniform = 1.0, 1.0
    for d, coefficients in zip(tensor.dimensions, tensor.coefficients, strict=True):
        if (coefficients == coefficients[0]).all() and not d.averages:
            uniform *= float(coefficients[0])
        else:
            exact *= _exact_share(d, coefficients)
    return 1.0 - exact * float(powers_of_two(np.array([uniform]))[0])


def _exact_share(d: Dimension, coefficients: Floats) -> float:
    """The share of the weights' square that powers of two scale.

    Along a summed dimension that is the share of old coordinates of which no copy rounds. Along any
    other it is that of new weights; a mean of n weights has an n-th of their square, and rounds."""
    powers = powers_of_two(coefficients)
    if d.summed:
        rounding_copies = np.bincount(d.source[d.determined], ~powers[d.determined], minlength=d.old)
        return float(np.mean(rounding_copies == 0))
    squares = d.value**2 / np.where(d.means, d.old, 1)
    return float((squares * (powers & ~d.means)).sum() / squares.sum())


def _remedies(plan: Plan, dtype: torch.dtype | None) -> tuple[str, ...]:
    """The options of which each alone would leave nothing to round."""
    options, found = plan.options, []
    others: dict[str, Options] = {
        "--attention heads": replace(options, attention="heads"),
        "--scaling unit": replace(options, scaling="unit"),
        "--symmetry split:1/2": replace(options, symmetry="split:1/2"),
    }
    if options.width is not None and not options.extends.for_widening:
        power = 2 ** max(1, round(math.log2(options.width)))
        others[f"--width {power}"] = replace(options, width=power)
    shapes = {name: tensor.shape for name, tensor in plan.tensors.items()}
    for choice, other in others.items() if plan.widens else ():
        if other != options:
            try:
                changed = build_plan(plan.extended, shapes, other.widening, plan.declared, dtypes=plan.dtypes)
            except GrowthError:
                continue
            if not _rounds(changed, dtype):
                found.append(choice)
    if dtype is not None and not _rounds(plan, None):
        found.append("no --dtype")
    return tuple(found)


def _rounds(plan: Plan, dtype: torch.dtype | None) -> bool:
    """Whether any tensor rounds."""
    return any(rounding for _, rounding in _rounding(plan, dtype))
