"""Finding the mistake in a declaration: the first module whose output grew differently from what
its rule says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from growth.algebra.maps import Map
from growth.algebra.roles import Role, Scale, Writes
from growth.hf.custom_modules import MODULE
from growth.plan.plan import TOLERANCE, Plan
from growth.proof.outputs import forward, grown_output


def first_difference(
    twin: PreTrainedModel, grown: PreTrainedModel, inputs: Mapping[str, Tensor], plan: Plan
) -> str | None:
    """The first module, in the order of execution, whose output differs from what its rule expects.

    Only modules with a declared ``weight`` are looked at. The rule of the module found, or that of
    one without a weight before it, is wrong.

    Args:
        twin: a registered module in its wrapper.
        grown: the same one grown.
        inputs: keyword arguments of their ``forward``.
        plan: how ``grown`` was made from ``twin``.

    Returns:
        The module's name, such as ``blocks.0.down``; None if no output differs.
    """
    roles = {
        tensor.name.removesuffix(".weight"): tensor.roles
        for tensor in plan.tensors.values()
        if tensor.name.endswith(".weight")
    }
    before, after = (_outputs(model, inputs, roles) for model in (twin, grown))
    for (name, old), (_, new) in zip(before, after, strict=False):
        leaving = _leaving(roles[name], plan)
        if leaving is not None and leaving.n != old.shape[-1]:
            continue  # its output is not the vector its weight writes
        expected = grown_output(old, leaving)
        if expected.shape != new.shape or not float((expected - new).abs().max()) <= TOLERANCE:
            return name
    return None


def _leaving(roles: tuple[Role, ...], plan: Plan) -> Map | None:
    """How the output of a module grows: as the axis its weight writes, or a norm's gain leaves; None
    if it does not grow."""
    for role in roles:
        if isinstance(role, (Writes, Scale)):
            axis = role.axis if isinstance(role, Writes) else role.leaves
            return axis.map(plan.maps)
    return None


def _outputs(model: PreTrainedModel, inputs: Mapping[str, Tensor], names: Iterable[str]) -> list[tuple[str, Tensor]]:
    """(module, output) in the order of execution, of the ``names`` whose output is a tensor. A
    module that runs twice is listed twice."""
    seen: list[tuple[str, Tensor]] = []
    modules = {path: name for name in names for path in (name, f"{MODULE}.{name}")}  # of transformers, registered

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
