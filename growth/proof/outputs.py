"""Running a model of any family, and comparing its outputs with those of the grown model.

Logits must be equal. A hidden state is wider after growth: it must be the old one mapped as its
space grows, ``new[j] = write[j] * old[source[j]]``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from growth.algebra.maps import Map
from growth.errors import ProofError
from growth.plan.plan import Plan

Outputs = dict[str, Tensor]


@torch.no_grad()
def forward(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Outputs:
    """Every floating-point tensor the model returns, by output field, without the scalar loss.

    Entries of the tuples ``hidden_states``, ``router_logits`` and ``feature_maps`` are named
    ``field.index``. Feature maps ``[batch, channels, height, width]`` are returned with their
    channels last, so that the dimension that grows is the last of every output."""
    wanted = {"output_hidden_states": True, "return_dict": True}
    wanted |= {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
    wanted |= {"output_router_logits": True} if "router_logits" in (model._can_record_outputs or {}) else {}
    outputs: Outputs = {}
    for name, value in model(**inputs, **wanted).items():
        if isinstance(value, Tensor):
            outputs |= {name: value} if value.is_floating_point() and value.ndim else {}
        elif name == "feature_maps":
            outputs |= {f"{name}.{i}": _channels_last(entry) for i, entry in enumerate(value)}
        elif isinstance(value, tuple) and ("hidden_states" in name or "router_logits" in name):
            outputs |= {f"{name}.{i}": entry for i, entry in enumerate(value) if isinstance(entry, Tensor)}
    return outputs


def _channels_last(value: Tensor) -> Tensor:
    return value.movedim(1, -1) if value.ndim == 4 else value


@dataclass(frozen=True)
class Comparison:
    """How an output of the old model is compared with that of the grown one.

    Args:
        map: how its last dimension grows; None if it does not (logits).
        summed: True where growth keeps only the sum over the copies of a coordinate
            (`growth.plan.tied_weights`), so that sums are compared.
    """

    map: Map | None = None
    summed: bool = False

    def expected(self, old: Tensor) -> Tensor:
        """What to compare for an output ``old [..., n]`` of the old model: the output the grown model
        must have, or ``old`` itself where sums are compared."""
        return old if self.summed else grown_output(old, self.map)

    def found(self, new: Tensor) -> Tensor:
        """What to compare for an output ``new [..., m]`` of the grown model: ``new`` itself, or
        ``sum(read[j] * new[j])`` over the copies j of each old coordinate, ``[..., n]``."""
        if not self.summed or self.map is None or self.map.m != new.shape[-1]:
            return new
        read = torch.from_numpy(np.where(self.map.means, 0.0, self.map.read)).to(new.device, new.dtype)
        source = torch.from_numpy(self.map.source).to(new.device)
        return new.new_zeros((*new.shape[:-1], self.map.n)).index_add_(-1, source, new * read)


def output_comparison(name: str, names: Mapping[str, Any], plan: Plan) -> Comparison:
    """How to compare one output.

    Args:
        name: an output as `forward` names it, such as ``hidden_states.2``.
        names: all of them; the last hidden state may range over another space than the others,
            since most models return it after their final norm.
        plan: how the model grew.
    """
    base, _, index = name.partition(".")
    space = plan.architecture.output_space(base, plan.model_class.__name__)
    if "hidden_states" in base and index and f"{base}.{int(index) + 1}" not in names:
        kind = plan.model_class.__name__
        last = "encoder_last_hidden_state" if base == "encoder_hidden_states" else "last_hidden_state"
        space = plan.architecture.output_space(f"{base}.last", kind) or plan.architecture.output_space(last, kind)
    return Comparison() if space is None else Comparison(plan.maps[space], space in plan.summed)


def grown_output(value: Tensor, grown: Map | None) -> Tensor:
    """The output ``[..., m]`` a grown model must have where the old one has ``value [..., n]``.

    Example:
        Two coordinates, both copied and written times 1:

        >>> grown_output(torch.tensor([3.0, 5.0]), Map.copies(2, np.array([0, 1, 0, 1])))
        tensor([3., 5., 3., 5.])
    """
    if grown is None:
        return value
    source = torch.from_numpy(grown.source).to(value.device)
    taken = value.index_select(-1, source)
    if grown.averages:
        taken = torch.where(torch.from_numpy(grown.means).to(value.device), value.mean(-1, keepdim=True), taken)
    return taken * torch.from_numpy(grown.write).to(value.device, value.dtype)


def largest_difference(before: Outputs, after: Outputs, plan: Plan) -> float:
    """The largest ``|after - grown before|`` over all outputs: NaN if any difference is, infinity
    if the models do not return the same fields.

    Args:
        before: outputs of the old model, by name.
        after: outputs of the grown model, on the same inputs.
        plan: how the one grew into the other.

    Raises:
        ProofError: if an output has another shape than its declared space grows to.
    """
    if before.keys() != after.keys():
        return float("inf")
    differences = []
    for name, value in before.items():
        compared = output_comparison(name, before, plan)
        grown = list(value.shape if compared.map is None else (*value.shape[:-1], compared.map.m))
        if list(after[name].shape) != grown:
            raise ProofError(
                f"output '{name}' has shape {list(value.shape)} and after growth {list(after[name].shape)}, not "
                f"{grown}. Correct its space in the declaration's 'outputs'."
            )
        differences.append((compared.found(after[name]) - compared.expected(value)).abs().max())
    return float(torch.stack(differences).max())
