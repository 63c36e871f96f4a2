"""Which parameter of the small model each one of the grown model comes from."""

from __future__ import annotations

from transformers import PreTrainedModel

from growth.hf.inner_names import parameters_of
from growth.plan.plan import Plan


def parameter_sources(old: PreTrainedModel, new: PreTrainedModel, plan: Plan) -> dict[str, str]:
    """Parameter name in the grown model -> the name of the small model's parameter that it grew, or
    was copied, from.

    Args:
        old, new: the model before and after growth; they may be on the meta device.
        plan: how it grew.

    Example:
        A model of one layer that becomes two:

        >>> sources = parameter_sources(small, grown.model, grown.plan)
        >>> sources["model.layers.1.mlp.up_proj.weight"]
        'model.layers.0.mlp.up_proj.weight'
    """
    first: dict[int, str] = {}
    held = parameters_of(old, remove_duplicate=False)
    for name, parameter in held.items():
        first.setdefault(id(parameter), name)
    known = {name: first[id(parameter)] for name, parameter in held.items()}
    extension = plan.extension
    sources = {name: name if extension is None else extension.module_source(name) for name in parameters_of(new)}
    return {name: known[source] for name, source in sources.items() if source in known}
