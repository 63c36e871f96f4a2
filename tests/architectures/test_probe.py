"""One size changed at a time, on the meta device: exactly the dimensions move that the declaration
says."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from growth import architectures
from growth.algebra.axes import Space
from growth.algebra.maps import Map
from growth.algebra.roles import Keeps
from growth.architectures.architecture import Architecture
from growth.errors import FOREIGN_ERRORS, GrowthError
from growth.hf.config_json import edited
from growth.hf.configs import Config, config_to_build, parse
from growth.hf.expected_tensors import Shapes, expected_tensors
from growth.hf.model_classes import class_of
from growth.hf.tensor_names import from_disk, to_disk
from support.family_cases import ALL, label, small_config

BOUND = {
    **dict.fromkeys(
        itertools.product(("deberta", "deberta-v2"), ("hidden_size", "num_attention_heads", "head_dim")),
        "hidden_size is heads times attention_head_size, which the code does not check",
    ),
    ("roformer", "num_attention_heads"): "the small head_dim becomes odd, and a pair is missing",
    ("falcon", "num_attention_heads"): "num_kv_heads says the same, and the code reads one of the two",
}
"""Sizes that the model's code takes to follow from others, so that they cannot change alone ->
why."""
CASES = list(
    {
        (model_type, str(branch)): (model_type, model_class, branch)
        for model_type, model_class, branch in reversed(ALL)
    }.values()
)


def declared_shapes(
    architecture: Architecture, raw: dict[str, Any], shapes: dict[str, tuple[int, ...]]
) -> dict[str, list[int | None]]:
    """Canonical name -> the size of each dimension by its role, None where it is kept."""
    sizes = architecture.read_sizes(parse(raw))
    maps: dict[Space, Map] = {space: Map.identity(sizes[space.size]) for space in architecture.laws}
    result: dict[str, list[int | None]] = {}
    for name in map(architecture.canonical, shapes):
        if not architecture.is_buffer(name):
            roles = architecture.roles(name, raw["architectures"][0])
            result[name] = [None if isinstance(role, Keeps) else role.resolve(0, maps).old for role in roles]
    return result


@pytest.mark.parametrize(
    ("model_type", "model_class", "branch"),
    [pytest.param(*case, marks=[pytest.mark.slow] if case[2] else []) for case in CASES],
    ids=label,
)
def test_dimensions_and_names(model_type: str, model_class: str, branch: dict[str, Any]) -> None:
    base = small_config(model_type, model_class, branch)
    kind = class_of(base)
    with torch.device("meta"):
        model = kind(config_to_build(base))
    check_names(model)
    before = {name: tuple(value.shape) for name, value in to_disk(model, model.state_dict()).items()}
    declared = architectures.find(model_type).at(parse(base))
    free = {name: field for name, field in declared.fields().items() if (model_type, name) not in BOUND}
    known = {name for name, field in free.items() if moves(base, kind, field, name, before)}
    assert known, "no size of this class moves alone"
    assert "hidden_size" not in free or ("hidden_size" in known) != coupled(model_type, branch)


def coupled(model_type: str, branch: dict[str, Any]) -> bool:
    """Whether the config refuses another hidden_size alone: XLNet's is heads times d_head, and
    longrope has a factor for every pair of a head."""
    return model_type == "xlnet" or (model_type == "phi3" and "rope_scaling" in branch)


def check_names(model: PreTrainedModel) -> None:
    """Names on disk and in memory are each other's inverse."""
    state = model.state_dict()
    back = from_disk(model, to_disk(model, state))
    assert {name: value.shape for name, value in back.items()} == {name: value.shape for name, value in state.items()}


def moves(base: dict[str, Any], kind: type[PreTrainedModel], field: str, name: str, before: Shapes) -> bool:
    """Whether some dimension moves with a size, exactly those that the declaration says. False where
    the class knows no such model."""
    declared = architectures.find(base["model_type"])
    size = declared.at(parse(base)).read_sizes(parse(base))[name]
    try:
        changed = Config(edited(base, {field: 2 * size}))
        architecture = declared.at(changed.parsed)
        architecture.read_sizes(changed.parsed)
        shapes = expected_tensors(changed, kind)[0]
    except (GrowthError, *FOREIGN_ERRORS):
        return False
    wanted = declared_shapes(architecture, changed, shapes)
    compared = {tensor: wanted[name] for tensor in shapes if (name := architecture.canonical(tensor)) in wanted}
    for tensor, roles in compared.items():
        kept = before.get(tensor, shapes[tensor])
        assert list(shapes[tensor]) == [k if w is None else w for w, k in zip(roles, kept, strict=True)], (
            name,
            tensor,
        )
    return any(shapes[tensor] != before.get(tensor, shapes[tensor]) for tensor in compared)
