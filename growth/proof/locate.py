"""Where a wrong declaration shows first: a module whose output is not what its rule says it grows
to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from growth.algebra.axes import Space
from growth.algebra.roles import Role, Scale, Writes
from growth.hf.custom_modules import MODULE
from growth.plan.plan import TOLERANCE, Plan
from growth.proof.outputs import Comparison, forward


def first_difference(
    twin: PreTrainedModel, grown: PreTrainedModel, inputs: Mapping[str, Tensor], plan: Plan
) -> str | None:
    """The name of the first module with a ``weight``, in the order they run, whose output differs;
    None where none does. Both hold a module of your own; ``plan`` says how ``grown`` came out of
    ``twin``."""
    roles = {
        tensor.name.removesuffix(".weight"): tensor.roles
        for tensor in plan.tensors.values()
        if tensor.name.endswith(".weight")
    }
    before, after = (_outputs(model, inputs, roles) for model in (twin, grown))
    for (name, old), (_, new) in zip(before, after, strict=False):
        leaving = _leaving(roles[name], plan)
        if leaving.map is not None and leaving.map.n != old.shape[-1]:
            continue  # a module of its own kind, whose weight is not its output's
        expected, found = leaving.expected(old), leaving.found(new)
        if expected.shape != found.shape or not float((expected - found).abs().max()) <= TOLERANCE:
            return name
    return None


def _leaving(roles: tuple[Role, ...], plan: Plan) -> Comparison:
    """How the output of a module grows by the roles of its weight."""
    axes = [
        role.axis if isinstance(role, Writes) else role.leaves for role in roles if isinstance(role, (Writes, Scale))
    ]
    return (
        Comparison(axes[0].map(plan.maps), isinstance(axes[0], Space) and axes[0] in plan.summed)
        if axes
        else Comparison()
    )


def _outputs(model: PreTrainedModel, inputs: Mapping[str, Tensor], names: Iterable[str]) -> list[tuple[str, Tensor]]:
    """(module, output) in the order of execution."""
    seen: list[tuple[str, Tensor]] = []
    modules = {f"{MODULE}.{name}": name for name in names}

    def recorder(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, arguments, output: seen.append((name, output)) if isinstance(output, Tensor) else None

    handles = [
        part.register_forward_hook(recorder(modules[path])) for path, part in model.named_modules() if path in modules
    ]
    try:
        forward(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return seen
