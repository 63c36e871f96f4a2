"""A declaration for a model_type that nobody declared: one that fits in every part, and whose twin
proves it.

Such a model may be a known block under a new name. A declaration fits it if every parameter has a
role of the right size and every config field is known and vouched for; whether the *code* computes
the same is for the twin to say, in exact arithmetic. Otherwise it is refused, with what did not
fit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from growth import architectures
from growth.architectures.architecture import Architecture
from growth.errors import FOREIGN_ERRORS, GrowthError, UnsupportedModelError
from growth.hf.config_fields import allowed_fields, is_neutral, unvouched
from growth.hf.configs import Config, parse
from growth.hf.expected_tensors import expected_tensors
from growth.hf.model_classes import class_of
from growth.plan.options import Options
from growth.plan.plan import TOLERANCE, Declared
from growth.proof.twin import twin_report

TRIES = 8
"""Declarations whose twin is run."""


@dataclass(frozen=True)
class _Fit:
    """How a declaration fits: under the new name, what does not and how often, and how many of its
    rules no parameter follows, and of how many laws it is made."""

    name: str
    architecture: Architecture | None
    misfits: Counter[str]
    unused: int = 0
    laws: int = 0


def declaration(raw: Mapping[str, Any], options: Options) -> Declared:
    """The declaration for a raw config.

    Raises:
        UnsupportedModelError: if its model_type is neither declared nor fits a declaration, with
            what does not fit the nearest.
    """
    config = Config.of(raw)
    parsed, model_type = config.parsed, str(config["model_type"])
    if model_type in architectures.known():
        return Declared(architectures.find(model_type))
    model_class = class_of(config)
    shapes = expected_tensors(config, model_class)[0]
    fits = [_fit(name, config, parsed, model_class, shapes, options.vouch) for name in architectures.known()]
    nearest = sorted(fits, key=lambda fit: (sum(fit.misfits.values()), fit.unused, fit.laws))
    failed = []
    for fit in nearest[:TRIES]:
        if fit.misfits or fit.architecture is None:
            break
        difference = _twin_difference(config, options, fit.architecture)
        if difference is not None and difference <= TOLERANCE:
            return Declared(fit.architecture, fit.name)
        failed.append(f"'{fit.name}'")
    if failed:
        raise UnsupportedModelError(
            f"no architecture is declared for model_type '{model_type}'; every parameter fits {', '.join(failed)}, "
            "but the twin does not "
            "compute the same after growth, so it is another function. growth.register adds a declaration of yours."
        )
    if nearest[0].architecture is None:
        raise UnsupportedModelError(
            f"no architecture is declared for model_type '{model_type}', and no declared one fits its config. "
            "`grow architectures` lists the known ones; growth.register adds yours."
        )
    named = [f"{what} ({count} of them)" if count > 1 else what for what, count in nearest[0].misfits.items()]
    listed = "; ".join(named[:4]) + (f"; and {len(named) - 4} more" if len(named) > 4 else "")
    raise UnsupportedModelError(
        f"no architecture is declared for model_type '{model_type}', and the nearest, '{nearest[0].name}', does not "
        f"fit: {listed}. "
        "Vouch for a field that does not matter (--vouch FIELD), or declare the model with growth.register."
    )


def _twin_difference(raw: Mapping[str, Any], options: Options, architecture: Architecture) -> float | None:
    """What the twin shows under this declaration, None where it cannot be run."""
    try:
        with torch.random.fork_rng(devices=[]):
            return twin_report(raw, options, declared=Declared(architecture)).difference
    except (GrowthError, *FOREIGN_ERRORS):
        return None


def _fit(
    name: str,
    raw: Mapping[str, Any],
    parsed: PreTrainedConfig,
    model_class: type[PreTrainedModel],
    shapes: Mapping[str, tuple[int, ...]],
    vouch: Collection[str],
) -> _Fit:
    base = architectures.find(name)
    prefixes = {*base.prefixes, *filter(None, [model_class.base_model_prefix])}
    borrowed = replace(
        base, model_type=str(raw["model_type"]), prefixes=tuple(sorted(prefixes)), module_class=None, config_class=None
    )
    try:
        architecture = borrowed.at(parsed)
        sizes = architecture.read_sizes(parsed)
        maps = architecture.maps(parsed, sizes, sizes, "unit", "slots")
    except (GrowthError, *FOREIGN_ERRORS) as error:
        return _Fit(name, None, Counter({str(error).partition(". ")[0].rstrip("."): len(shapes) + 1}))
    misfits: Counter[str] = Counter()
    followed = set()
    for tensor, shape in shapes.items():
        canonical = architecture.canonical(tensor)
        if architecture.is_buffer(canonical):
            continue
        try:
            roles = architecture.roles(canonical, model_class.__name__)
            fits = len(roles) == len(shape) and all(
                r.resolve(n, maps).old == n for r, n in zip(roles, shape, strict=True)
            )
        except (UnsupportedModelError, ValueError):
            fits = False
        if fits:
            followed.add(roles)
        else:
            misfits[f"tensor '{re.sub(r'[0-9]+', '*', canonical)}' of shape {list(shape)}"] += 1
    foreign = _foreign_fields(raw, parsed, architecture, name, vouch)
    misfits.update(f"config field '{field}' is {value!r}" for field, value in foreign.items())
    return _Fit(
        name,
        borrowed,
        misfits,
        sum(len(rule) for rule in architecture.modules.values()) - len(followed),
        len(architecture.laws),
    )


def _foreign_fields(
    raw: Mapping[str, Any], parsed: PreTrainedConfig, architecture: Architecture, name: str, vouch: Collection[str]
) -> dict[str, Any]:
    """Fields the declaration does not vouch for. A default of an unknown class vouches for nothing,
    unless it says "none"."""
    known = {*architecture.vouched, *allowed_fields(parsed, architecture, vouch)}
    base = parse({"model_type": name}).to_dict()
    foreign = {
        field: value
        for field, value in parsed.to_dict().items()
        if value and value != base.get(field) and field not in known and not is_neutral(field)
    }
    return {**unvouched(raw, architecture, vouch), **foreign}
