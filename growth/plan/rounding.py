"""What a growth costs in precision, told before a weight is read.

A new weight is an old one times a coefficient, cast once to its dtype. Where the coefficient is a
power of two (or 0) and the dtype is no coarser than the source's, nothing is rounded, and the
tensor is bit for bit what it was. Elsewhere each weight is off by at most half a unit in its last
place. Such a unit is eps times the power of two below the weight; over the weights between two
powers of two, evenly spread, the mean of (power / weight)**2 is 3/7 of the weights' own mean
square, and rounding is even within a unit: so

    RMS of rounding / RMS of weights = eps * sqrt(3 / 7 / 12) = 0.19 eps,

times the root of the share of their square that rounds at all. Broken symmetry adds nothing: copies
that differ add up to the last bit (`growth.weights.exact_sums`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
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
from growth.plan.plan import Plan, TensorPlan

PER_EPS = math.sqrt(3 / 7 / 12)
"""RMS of rounding over RMS of weights, in units of eps."""


@dataclass(frozen=True)
class Exactness:
    """What one dtype leaves of a growth.

    Args:
        dtype: of the result: ``as stored``, where each tensor keeps its own, or its name.
        rounding: tensor -> relative RMS of what rounding does to it; 0 where it is bit for bit.
        remedies: what would have none round, as options of the command line; empty where none does,
            or no choice helps.
    """

    dtype: str
    rounding: Mapping[str, float]
    remedies: tuple[str, ...] = ()

    @property
    def rounded(self) -> dict[str, float]:
        """Those that round."""
        return {name: rms for name, rms in self.rounding.items() if rms}

    @property
    def largest(self) -> float:
        """Of the tensor that rounds most."""
        return max(self.rounding.values(), default=0.0)

    def to_json(self) -> dict[str, Any]:
        return {
            "dtype": self.dtype,
            "exact": len(self.rounding) - len(self.rounded),
            "rounded": len(self.rounded),
            "largest": self.largest,
            "choices": list(self.remedies),
        }


def predict(plan: Plan, dtype: torch.dtype | None = None) -> Exactness:
    """What ``plan`` rounds if its result is held in ``dtype``, or as the source is. Reads no
    weight."""
    kept, wanted = plan.source_dtypes, result_dtypes(plan, dtype)
    rounding = {name: relative_rounding(tensor, kept[name], wanted[name]) for name, tensor in plan.tensors.items()}
    found = Exactness("as stored" if dtype is None else dtype_name(dtype), rounding)
    return replace(found, remedies=_remedies(plan, dtype)) if found.rounded else found


def relative_rounding(tensor: TensorPlan, held: torch.dtype, result: torch.dtype) -> float:
    """RMS of rounding over RMS of weights, when a tensor held in one dtype is grown into
    another."""
    if held not in FLOATS or (tensor.unchanged and held == result):
        return 0.0
    share = 1.0 if torch.finfo(result).eps > torch.finfo(held).eps else _rounding_share(tensor)
    return float(PER_EPS * torch.finfo(result).eps * share**0.5)


def result_dtypes(plan: Plan, wanted: torch.dtype | None) -> dict[str, torch.dtype]:
    """The dtype of each tensor of the result: ``wanted``, or what it has; nor does a mask or a
    counter change, a table of frequencies, or what the class itself keeps in float32 when it is
    loaded in that dtype."""
    held = plan.source_dtypes
    return {
        name: wanted if wanted and _converts(plan, name, held[name], wanted) else held[name] for name in plan.tensors
    }


def _converts(plan: Plan, name: str, held: torch.dtype, wanted: torch.dtype) -> bool:
    spaces = {space for role in plan.tensors[name].roles for space in role.spaces()}
    if held not in FLOATS or any(isinstance(plan.architecture.laws[space], Frequencies) for space in spaces):
        return False
    kept = {*(plan.model_class._keep_in_fp32_modules_strict or ())}
    kept |= {*(plan.model_class._keep_in_fp32_modules or ())} if wanted is torch.float16 else set()
    return torch.finfo(wanted).bits >= torch.finfo(held).bits or not kept & set(name.split("."))


def _rounding_share(tensor: TensorPlan) -> float:
    """The share of the weights' square that some other coefficient than a power of two scales."""
    if tensor.exact:
        return 0.0
    if any(d.shift is not None for d in tensor.dimensions) or (
        tensor.symmetry.breaks and tensor.exact_sum_axis is None
    ):
        return 1.0
    exact, factor = 1.0, 1.0
    for d, coefficients in zip(tensor.dimensions, tensor.coefficients, strict=True):
        if (coefficients == coefficients[0]).all() and not d.averages:
            factor *= float(coefficients[0])
        else:
            exact *= _exact_share(d, coefficients)
    return 1.0 - exact * float(powers_of_two(np.array([factor]))[0])


def _exact_share(d: Dimension, coefficients: Floats) -> float:
    """The share that powers of two scale of the weights' square: of what a summed dimension adds up
    to, else of new weights. A mean of n weights has an n-th of their square, and rounds."""
    powers, means = powers_of_two(coefficients), np.zeros(d.new, dtype=bool) if d.mean is None else d.mean
    if d.summed:
        return float(np.mean(np.bincount(d.source[d.determined], ~powers[d.determined], minlength=d.old) == 0))
    squares = d.value**2 / np.where(means, d.old, 1)
    return float((squares * (powers & ~means)).sum() / squares.sum())


def _remedies(plan: Plan, dtype: torch.dtype | None) -> tuple[str, ...]:
    """The single changes of an option under which nothing rounds."""
    options, found = plan.options, []
    others: dict[str, Options] = {
        "--attention heads": replace(options, attention="heads"),
        "--scaling unit": replace(options, scaling="unit"),
        "--symmetry split:1/2": replace(options, symmetry="split:1/2"),
    }
    if options.width is not None and not options.sizes:
        power = 2 ** max(1, round(math.log2(options.width)))
        others[f"--width {power}"] = replace(options, width=power)
    shapes = {name: tensor.shape for name, tensor in plan.tensors.items()}
    for choice, other in others.items():
        if other != options:
            try:
                changed = build_plan(plan.old_config, shapes, other, plan.declared, dtypes=plan.dtypes)
            except GrowthError:
                continue
            wanted, kept = result_dtypes(changed, dtype), changed.source_dtypes
            if not any(
                relative_rounding(tensor, kept[name], wanted[name]) for name, tensor in changed.tensors.items()
            ):
                found.append(choice)
    if dtype is not None and not any(
        relative_rounding(t, plan.source_dtypes[n], plan.source_dtypes[n]) for n, t in plan.tensors.items()
    ):
        found.append("no --dtype")
    return tuple(found)
