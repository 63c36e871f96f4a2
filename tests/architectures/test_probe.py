"""One size changed at a time, on the meta device: exactly the dimensions move that the declaration
says."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from growth import architectures
from growth.algebra.axes import Space
from growth.algebra.maps import Map
from growth.algebra.roles import Keeps
from growth.architectures.architecture import Architecture
from growth.errors import FOREIGN_ERRORS, GrowthError
from growth.hf.config_json import edited
from growth.hf.configs import parse
from growth.hf.expected_tensors import expected_tensors
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


@pytest.mark.parametrize(("model_type", "model_class", "branch"), CASES, ids=label)
def test_exactly_the_declared_dimensions_move(model_type: str, model_class: str, branch: dict[str, Any]) -> None:
    base = small_config(model_type, model_class, branch)
    kind = class_of(base)
    before = expected_tensors(base, kind)[0]
    declared = architectures.find(model_type).at(parse(base))
    moved: set[str] = set()
    refused: set[str] = set()
    for name, field in declared.fields().items():
        if (model_type, name) in BOUND:
            refused.add(name)
            continue
        size = declared.read_sizes(parse(base))[name]
        try:
            changed = edited(base, {field: 2 * size})
            architecture = architectures.find(model_type).at(parse(changed))
            architecture.read_sizes(parse(changed))
            shapes = expected_tensors(changed, kind)[0]
        except (GrowthError, *FOREIGN_ERRORS):
            refused.add(name)  # this class knows no such model
            continue
        wanted = declared_shapes(architecture, changed, shapes)
        for tensor, shape in shapes.items():
            canonical = architecture.canonical(tensor)
            if canonical in wanted:
                kept = before.get(tensor, shape)
                assert list(shape) == [k if w is None else w for w, k in zip(wanted[canonical], kept, strict=True)], (
                    name,
                    tensor,
                )
                if shape != kept:
                    moved.add(name)
    assert {"hidden_size"} & declared.sizes.keys() <= moved | refused


@pytest.mark.parametrize(("model_type", "model_class", "branch"), CASES, ids=label)
def test_names_on_disk_and_in_memory_are_each_other_s_inverse(
    model_type: str, model_class: str, branch: dict[str, Any]
) -> None:
    raw = small_config(model_type, model_class, branch)
    with torch.device("meta"):
        model = class_of(raw)(parse(raw))
    state = model.state_dict()
    back = from_disk(model, to_disk(model, state))
    assert {name: value.shape for name, value in back.items()} == {name: value.shape for name, value in state.items()}
