"""Running a model of any family, and comparing its outputs with those of the grown model.

Logits must be equal. A hidden state is wider after growth: it must be the old one mapped as its
space grows, ``new[j] = write[j] * old[source[j]]``, coordinate by coordinate."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from growth.algebra.maps import Map
from growth.errors import ProofError
from growth.hf.dtensors import whole
from growth.plan.plan import TOLERANCE, Plan

Outputs = dict[str, Tensor]

_ROUTERS = "router_logits"
LOSS = "loss"

T = TypeVar("T")


@torch.no_grad()
def forward(model: PreTrainedModel, inputs: Mapping[str, Any], *, inner: bool = True, loss: bool = False) -> Outputs:
    """Every floating-point tensor the model returns, by output field, without scalars.

    Entries of the tuples ``hidden_states``, ``router_logits`` and ``feature_maps`` are named
    ``field.index``. Feature maps ``[batch, channels, height, width]`` are returned with their
    channels last, so that the dimension that grows is the last of every output.

    Args:
        model: to run.
        inputs: keyword arguments of its ``forward``.
        inner: ask for hidden states and router logits too.
        loss: return the loss too, as ``[1]``, if the inputs hold labels.
    """
    wanted = {"output_hidden_states": inner, "return_dict": True}
    wanted |= {"use_cache": False} if "use_cache" in inspect.signature(type(model).forward).parameters else {}
    wanted |= {"output_router_logits": inner} if "router_logits" in (model._can_record_outputs or {}) else {}
    outputs: Outputs = {}
    with _named_outputs(model):
        returned = model(**{**inputs, **wanted})
    for name, value in returned.items():
        if isinstance(value, Tensor):
            if value.is_floating_point() and (value.ndim or (loss and name == LOSS)):
                outputs[name] = whole(value.detach() if value.ndim else value.detach()[None])
        elif name == "feature_maps":
            outputs |= {f"{name}.{i}": _channels_last(whole(entry)) for i, entry in enumerate(value)}
        elif isinstance(value, tuple) and ("hidden_states" in name or "router_logits" in name):
            outputs |= {
                f"{name}.{i}": whole(entry.detach()) for i, entry in enumerate(value) if isinstance(entry, Tensor)
            }
    return outputs


@contextmanager
def _named_outputs(model: PreTrainedModel) -> Iterator[None]:
    """Let the models inside a model return named outputs too, whatever an old config says
    (``return_dict: false``)."""
    configs = [part.config for part in model.modules() if isinstance(part, PreTrainedModel)]
    before = [config.return_dict for config in configs]
    for config in configs:
        config.return_dict = True
    try:
        yield
    finally:
        for config, value in zip(configs, before, strict=True):
            config.return_dict = value


def _channels_last(value: Tensor) -> Tensor:
    return value.movedim(1, -1) if value.ndim == 4 else value


def output_map(name: str, names: Mapping[str, Any], plan: Plan) -> Map | None:
    """How the last dimension of one output grows; None if it does not (logits).

    Args:
        name: an output as `forward` names it, such as ``hidden_states.2``.
        names: all of them; the last hidden state may range over another space than the others,
            since most models return it after their final norm.
        plan: how the model grew.
    """
    base, _, index = name.partition(".")
    axis = plan.architecture.output_axis(base, plan.model_class.__name__)
    if "hidden_states" in base and index and f"{base}.{int(index) + 1}" not in names:
        kind = plan.model_class.__name__
        last = "encoder_last_hidden_state" if base == "encoder_hidden_states" else "last_hidden_state"
        axis = plan.architecture.output_axis(f"{base}.last", kind) or plan.architecture.output_axis(last, kind)
    return None if axis is None else axis.map(plan.maps)


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


def of_old_layers(outputs: Mapping[str, T], plan: Plan, *, renumber: bool = True) -> dict[str, T]:
    """The outputs of a grown model without those of new layers, numbered as the old model's.

    What a layer receives is an entry of ``hidden_states``, and the last entry follows the last
    layer: entry i of the old model is entry ``kept[i]`` of the new one. So are router logits where
    every layer has a router. Else, and where there are new experts, they are left out: the logits
    follow from what they choose.

    Args:
        outputs: of the grown model, as `forward` names them, or something else by these names.
        plan: how it grew.
        renumber: False for the outputs of the old model.
    """
    if plan.extension is None or not (plan.extension.stacks or plan.extension.copies):
        return dict(outputs)
    lengths = {len(stack.origins if renumber else stack.kept) for stack in plan.extension.stacks}
    routers = Counter(name.rpartition(".")[0] for name in outputs if _ROUTERS in name)
    everywhere = not plan.extension.copies and all(count in lengths for count in routers.values())
    outputs = {name: value for name, value in outputs.items() if everywhere or _ROUTERS not in name}
    for stack in plan.extension.stacks if renumber else ():
        entries = {place: number for number, place in enumerate((*stack.kept, len(stack.origins)))}
        outputs = dict(_renamed(outputs, stack.name.partition(".")[0], entries, len(stack.origins)))
    return outputs


def _renamed(outputs: Mapping[str, T], stack: str, entries: Mapping[int, int], layers: int) -> Iterator[tuple[str, T]]:
    """The outputs, those per layer of one stack renumbered, or left out."""
    lengths = Counter(name.rpartition(".")[0] for name in outputs)
    for name, value in outputs.items():
        base, _, index = name.rpartition(".")
        of_a_part = re.match(r"(encoder|decoder|cross)_", base)
        of_this = of_a_part is None or of_a_part[1] == stack or (of_a_part[1] == "cross" and stack == "decoder")
        per_layer = index.isdigit() and ("hidden_states" in base or _ROUTERS in base)
        if not per_layer or not of_this or lengths[base] - layers not in (0, 1):
            yield name, value
        elif int(index) in entries:
            yield f"{base}.{entries[int(index)]}", value


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
    before, after = of_old_layers(before, plan, renumber=False), of_old_layers(after, plan)
    if before.keys() != after.keys():
        return float("inf")
    differences = []
    for name, value in before.items():
        mapped = output_map(name, before, plan)
        grown = list(value.shape if mapped is None else (*value.shape[:-1], mapped.m))
        if list(after[name].shape) != grown:
            raise ProofError(
                f"output '{name}' has shape {list(value.shape)} and after growth {list(after[name].shape)}, not "
                f"{grown}. Correct its space in the declaration's 'outputs'."
            )
        differences.append((after[name] - grown_output(value, mapped)).abs().max())
    return float(torch.stack(differences).max())


def differ(before: Outputs, after: Outputs, plan: Plan) -> bool:
    """Whether a model that was extended, and is as wide as before, returns something else.

    Args:
        before, after: outputs of the model before and after.
        plan: how it is extended.
    """
    before, after = of_old_layers(before, plan, renumber=False), of_old_layers(after, plan)
    return any(not float((after[name] - value).abs().max()) <= TOLERANCE for name, value in before.items())
