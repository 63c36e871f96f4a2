"""What the inference finds for a declared family, beside what its declaration says: the same
miniature with loud random weights, grown by either, bit for bit."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig

from growth import architectures
from growth.architectures.architecture import Architecture
from growth.errors import GrowthError, UnsupportedModelError
from growth.hf.model_classes import class_of
from growth.hf.tensor_names import to_disk
from growth.infer.infer import infer
from growth.plan.build import build_plan
from growth.plan.declared import Declared
from growth.plan.options import Options
from growth.plan.plan import Plan
from growth.proof.float64 import exact_arithmetic
from growth.proof.miniature import build_exact, loud, miniature
from growth.weights.grow import grow_tensor

ROUNDING = 4e-16
"""Two float64 that differ by one rounding are within this, relative to their size."""


@dataclass(frozen=True)
class Verdict:
    """How an inferred declaration compares with the one that was written.

    Args:
        refused: why nothing could be inferred; empty if something was.
        tensors: name with ``*`` for numbers -> how it differs: ``last bit``, a factor such as ``x2``, or
            ``other copies``. Empty if all are the same.
        fields: config fields that the two set otherwise.
    """

    refused: str = ""
    tensors: Mapping[str, str] = field(default_factory=dict)
    fields: frozenset[str] = frozenset()

    @property
    def same_bits(self) -> bool:
        return not self.refused and not self.tensors


def default_config(model_type: str, model_class: str, branch: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a class at its defaults, but for what ``branch`` says."""
    parsed = AutoConfig.for_model(model_type, **branch)
    raw: dict[str, Any] = {**json.loads(parsed.to_json_string(use_diff=True)), "architectures": [model_class]}
    raw["model_type"] = parsed.model_type
    if parsed.is_encoder_decoder and getattr(parsed, "decoder_start_token_id", None) is None:
        raw["decoder_start_token_id"] = 0
    return raw


def verdict(model_type: str, model_class: str, branch: Mapping[str, Any]) -> Verdict:
    """Infer a declaration without a look at the one there is, and compare what the two make of one miniature."""
    raw = default_config(model_type, model_class, branch)
    try:
        inferred = infer(raw, class_of(raw))
    except UnsupportedModelError as refusal:
        return Verdict(refused=str(refusal))
    return compared(raw, architectures.find(model_type), inferred)


def compared(raw: Mapping[str, Any], written: Architecture, inferred: Architecture) -> Verdict:
    """What two declarations of one model make of its miniature, at twice and three times the width."""
    tensors: dict[str, str] = {}
    fields: set[str] = set()
    with exact_arithmetic(), torch.random.fork_rng(devices=[]):
        small = miniature(raw, inferred.at(class_of(raw).config_class.from_dict(dict(raw))))
        model = build_exact(small)
        loud(model, 1)
        weights = {name: value.detach() for name, value in to_disk(model, model.state_dict()).items()}
        shapes = {name: tuple(value.shape) for name, value in weights.items()}
        for width in (2, 3):
            try:
                one, other = (
                    build_plan(small, shapes, Options(width=width), Declared(architecture))
                    for architecture in (written, inferred)
                )
            except GrowthError as error:
                return Verdict(refused=f"no plan at x{width}: {error}")
            assert one.tensors.keys() == other.tensors.keys()
            for name in one.tensors:
                if said := _difference(weights[name], name, one, other):
                    tensors.setdefault(re.sub(r"\.\d+\.", ".*.", name), said)
            fields |= {name for name in {**one.new, **other.new} if one.new.get(name) != other.new.get(name)}
    return Verdict("", tensors, frozenset(fields))


def _difference(weight: Tensor, name: str, one: Plan, other: Plan) -> str:
    first, second = (grow_tensor(weight, plan.tensors[name]) for plan in (one, other))
    if first.shape != second.shape:
        return f"{list(first.shape)} and {list(second.shape)}"
    if torch.equal(first, second):
        return ""
    if bool(((first - second).abs() <= ROUNDING * first.abs()).all()):
        return "last bit"
    used = first.abs() > 0
    ratios = second[used] / first[used]
    ratio = float(ratios.median())
    uniform = bool(((ratios - ratio).abs() < 1e-9 * abs(ratio)).all()) and bool((second[~used] == 0).all())
    return f"x{ratio:.4g}" if uniform else "other copies"
