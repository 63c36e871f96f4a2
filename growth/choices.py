"""The keywords that say how to grow, shared by everything that grows or plans, and the options they make."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, TypedDict

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import PreTrainedConfig

from growth import architectures
from growth.config import parse
from growth.errors import CheckpointError, IllegalGrowthError
from growth.options import Options
from growth.sizes import read_sizes, standard_sizes
from growth.source import read_json
from growth.symmetry import LARGEST_NOISE

Like = str | os.PathLike[str] | PreTrainedConfig | Mapping[str, Any]


class Choices(TypedDict, total=False):
    """How to grow. Nothing named: twice as wide.

    Args:
        width: factor on features (hidden and feed-forward size, and heads or head_dim), whole or not: ``2``, ``1.5``, ``"5/3"``.
        hidden_size, intermediate_size, heads, kv_heads, head_dim: sizes to grow to, instead of a factor or beside it, or ``"keep"``.
        sizes: any other size of the config, by its standard name or its field: ``{"moe_intermediate_size": 2048}``.
        like: take the sizes of another model: a folder, a hub id, a ``config.json``, or a config.
        attention: what grows with the width: ``heads`` copies whole heads, ``head-dim`` widens each.
        rope: for rotary models with wider heads: ``slots`` or ``pairs`` (`growth.rules.rotary`).
        scaling: ``unit`` copies activations, ``orthogonal`` divides them by sqrt(copies) as well (`growth.law`).
        symmetry: ``none``, ``noise:R`` or ``split:A/B`` (`growth.symmetry`).
        noise: short for ``symmetry="noise:R"``.
        seed: of noise and varied splits.
        lossy: accept a rotary growth that is not exact.
        vouch: config fields the caller vouches for.
    """

    width: float | str | Fraction | None
    hidden_size: int | str | None
    intermediate_size: int | str | None
    heads: int | str | None
    kv_heads: int | str | None
    head_dim: int | str | None
    sizes: Mapping[str, int | str] | None
    like: Like | None
    attention: Literal["heads", "head-dim"]
    rope: Literal["slots", "pairs"]
    scaling: Literal["unit", "orthogonal"]
    symmetry: str
    noise: float
    seed: int
    lossy: bool
    vouch: Sequence[str]


NAMES = {
    **{"hidden_size": "hidden_size", "intermediate_size": "intermediate_size", "head_dim": "head_dim"},
    **{"heads": "num_attention_heads", "kv_heads": "num_key_value_heads"},
}
"""Keyword -> the standard name of the size."""


def chosen(choices: Choices) -> Options:
    """The options that some keywords make.

    Raises:
        TypeError: for a keyword that does not exist.
        IllegalGrowthError: for a value outside its range, or choices that contradict each other.
    """
    rest: dict[str, Any] = dict(choices)
    if unknown := sorted(rest.keys() - Choices.__annotations__.keys()):
        raise TypeError(f"unexpected keyword argument '{unknown[0]}'; the choices are {', '.join(Choices.__annotations__)}")
    sizes = {name: size for keyword, name in NAMES.items() if (size := rest.pop(keyword, None)) is not None}
    for name, size in (rest.pop("sizes", None) or {}).items():
        if name in sizes and sizes[name] != size:
            raise IllegalGrowthError(f"{name} is named twice, as {sizes[name]} and as {size}. Name it once.")
        sizes[name] = size
    width, like, noise = rest.pop("width", None), rest.pop("like", None), rest.pop("noise", 0.0)
    if like and width is not None:
        raise IllegalGrowthError("the sizes of another model leave no room for a width. Choose one of the two.")
    if isinstance(noise, bool) or not isinstance(noise, (int, float)):
        raise IllegalGrowthError(f"noise must be a number from 0 to {LARGEST_NOISE}, not {noise!r}. 0.1 is a tenth of each weight's RMS.")
    if noise:
        if rest.get("symmetry", "none") != "none":
            raise IllegalGrowthError(f"noise {noise:g} and symmetry {rest['symmetry']} contradict each other. Choose one of the two.")
        rest["symmetry"] = f"noise:{noise}"
    return Options(width=_number(width), sizes=sizes, like=_sizes_of(like) if like else {}, **rest)


def _number(width: Any) -> Any:
    """A width as a number where it is one, and as it is otherwise."""
    if isinstance(width, str):
        try:
            return float(Fraction(width.strip()))
        except (ValueError, ArithmeticError):
            return width
    return float(width) if isinstance(width, Fraction) else width


def _sizes_of(model: Like) -> dict[str, int]:
    """The sizes of another model, by name; of a family that nobody declared, those of any Transformer."""
    if isinstance(model, Mapping) and "model_type" not in model:
        for name, value in model.items():
            if isinstance(value, bool) or not isinstance(value, int):
                raise IllegalGrowthError(
                    f"like holds {name} {value!r}, which is no size. Use whole numbers, or a config with its model_type."
                )
        return dict(model)
    raw = _raw(model)
    parsed = parse(raw)
    model_type = str(raw["model_type"])
    if model_type in architectures.known():
        return architectures.find(model_type).at(parsed).read_sizes(parsed)
    return read_sizes(standard_sizes(), parsed, model_type)


def _raw(model: Like) -> dict[str, Any]:
    if isinstance(model, PreTrainedConfig):
        return model.to_dict()
    if isinstance(model, Mapping):
        return dict(model)
    path = Path(model)
    if path.is_dir():
        path = path / "config.json"
    if not path.exists():
        try:
            path = Path(hf_hub_download(str(model), "config.json"))
        except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise CheckpointError(
                f"'{model}' is neither a folder, a config.json nor a model the hub would give. Check the spelling and the network."
            ) from error
    raw = read_json(path)
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} does not hold a JSON object. Name the config.json of a model.")
    return raw
