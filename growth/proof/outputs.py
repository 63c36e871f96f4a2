"""Running a model of any family on the same inputs, and comparing what two models return."""

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
    """Every floating tensor of the model's output but its loss, by field; entries of
    ``hidden_states``, ``router_logits`` and ``feature_maps`` by ``field.index``, the maps with
    their channels last."""
    wanted = {"output_hidden_states": True, "return_dict": True}
    wanted |= {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
    wanted |= {"output_router_logits": True} if "router_logits" in (model._can_record_outputs or {}) else {}
    result = model(**inputs, **wanted)
    outputs: Outputs = {}
    for name, value in result.items():
        if isinstance(value, Tensor) and value.is_floating_point() and value.ndim:
            outputs[name] = value
        elif name == "feature_maps":
            outputs |= {
                f"{name}.{i}": entry.movedim(1, -1) if entry.ndim == 4 else entry for i, entry in enumerate(value)
            }
        elif isinstance(value, tuple) and ("hidden_states" in name or "router_logits" in name):
            outputs |= {f"{name}.{i}": entry for i, entry in enumerate(value) if isinstance(entry, Tensor)}
    return outputs


@dataclass(frozen=True)
class Comparison:
    """How to compare an output.

    Args:
        map: how it grows, None if it does not (logits).
        summed: whether only the sums over copies are kept (`growth.plan.tied_weights`), so that
            these are compared.
    """

    map: Map | None = None
    summed: bool = False

    def expected(self, old: Tensor) -> Tensor:
        """What a grown model must show where the old one returns ``old``."""
        return old if self.summed else grown_output(old, self.map)

    def found(self, new: Tensor) -> Tensor:
        """What it does show where it returns ``new``: as it is, or ``sum(read[j] * new[j])`` over
        copies."""
        if not self.summed or self.map is None or self.map.m != new.shape[-1]:
            return new
        read = torch.from_numpy(np.where(self.map.means, 0.0, self.map.read)).to(new.device, new.dtype)
        source = torch.from_numpy(self.map.source).to(new.device)
        return new.new_zeros((*new.shape[:-1], self.map.n)).index_add_(-1, source, new * read)


def output_comparison(name: str, names: Mapping[str, Any], plan: Plan) -> Comparison:
    """How to compare an output field."""
    base, _, index = name.partition(".")
    space = plan.architecture.output_space(base, plan.model_class.__name__)
    if "hidden_states" in base and index and f"{base}.{int(index) + 1}" not in names:
        kind, last = (
            plan.model_class.__name__,
            {"encoder_hidden_states": "encoder_last_hidden_state"}.get(base, "last_hidden_state"),
        )
        space = plan.architecture.output_space(f"{base}.last", kind) or plan.architecture.output_space(last, kind)
    return Comparison() if space is None else Comparison(plan.maps[space], space in plan.summed)


def grown_output(value: Tensor, grown: Map | None) -> Tensor:
    """What a grown model must return where the old one returns ``value``."""
    if grown is None:
        return value
    source = torch.from_numpy(grown.source).to(value.device)
    taken = value.index_select(-1, source)
    if grown.averages:
        taken = torch.where(torch.from_numpy(grown.means).to(value.device), value.mean(-1, keepdim=True), taken)
    return taken * torch.from_numpy(grown.write).to(value.device, value.dtype)


def largest_difference(before: Outputs, after: Outputs, plan: Plan) -> float:
    """max |after - grown before| over all outputs; NaN counts as NaN, a field that only one has as
    infinity."""
    if before.keys() != after.keys():
        return float("inf")
    differences = []
    for name, value in before.items():
        compared = output_comparison(name, before, plan)
        grown = list(value.shape if compared.map is None else (*value.shape[:-1], compared.map.m))
        if list(after[name].shape) != grown:
            raise ProofError(
                f"output '{name}' has shape {list(value.shape)} and after growth {list(after[name].shape)}, not "
                f"{grown}. "
                "Correct its space in the declaration's 'outputs'."
            )
        differences.append((compared.found(after[name]) - compared.expected(value)).abs().max())
    return float(torch.stack(differences).max())
