"""A borrowed declaration for a ``model_type`` that has none.

Many new models are a known block under a new name. Every declaration is tried on such a model. It
fits if each parameter has a role of the right size and each config field is supported. Whether the
model's *code* computes what the declaration says is then decided by the twin, in float64. If none
fits, the model is refused, with what does not fit the nearest declaration."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from growth import architectures
from growth.architectures.architecture import Architecture
from growth.errors import FOREIGN_ERRORS, GrowthError, UnsupportedModelError
from growth.hf.config_fields import allowed_fields, is_neutral, unsupported_fields
from growth.hf.configs import Config, parse
from growth.hf.expected_tensors import Shapes, expected_tensors
from growth.hf.model_classes import class_of
from growth.plan.declared import Declared
from growth.plan.options import Options
from growth.plan.plan import TOLERANCE
from growth.proof.twin import twin_report

TRIES = 8
"""The largest number of declarations whose twin is run."""


LISTED = 4
"""The largest number of misfits that a message lists."""


NEAR = 0.2
"""The smallest part of a model's tensors that a declaration must describe to be named as the
nearest."""


@dataclass(frozen=True)
class _Fit:
    """How well one declaration describes a model.

    Args:
        name: the declaration's own ``model_type``.
        architecture: the declaration under the ``model_type`` of the model.
        tensors: tensors without a role of their size, layer numbers as ``*`` -> how many.
        fields: config fields that are not supported, with their values.
        fitting: the number of tensors that it describes.
        unused: the number of kinds of parameter that it describes and the model does not have.
        laws: the number of its laws; of two that fit equally well, the one with fewer is tried
            first.
    """

    name: str
    architecture: Architecture
    tensors: Counter[str]
    fields: Mapping[str, Any]
    fitting: int
    unused: int
    laws: int

    @property
    def misfits(self) -> int:
        """The number of tensors and fields that do not fit."""
        return self.tensors.total() + len(self.fields)


def declaration(raw: Mapping[str, Any], options: Options) -> Declared:
    """The declaration for a config: that of its ``model_type``, or one that fits and that the twin
    confirms.

    Raises:
        UnsupportedModelError: if the ``model_type`` is not declared and no declaration fits.
    """
    config = Config.of(raw)
    model_type = str(config.parsed.model_type)
    if model_type in architectures.known():
        return Declared(architectures.find(model_type))
    model_class = class_of(config)
    shapes = expected_tensors(config, model_class)[0]
    fits, unreadable = [], []
    for name in architectures.known():
        try:
            fits.append(_fit(name, config, model_class, shapes, options.vouch))
        except (GrowthError, *FOREIGN_ERRORS) as error:  # its sizes are not in this config
            unreadable.append(str(error).partition(". ")[0].rstrip("."))
    fits.sort(key=lambda fit: (fit.misfits, fit.unused, fit.laws))
    tried = [fit for fit in fits if not fit.misfits][:TRIES]
    for fit in tried:
        difference = _twin_difference(config, options, fit.architecture)
        if difference is not None and difference <= TOLERANCE:
            return Declared(fit.architecture, fit.name)
    why = _why(fits, [fit.name for fit in tried], unreadable, len(shapes))
    raise UnsupportedModelError(f"no architecture is declared for model_type '{model_type}'{why}")


def _why(fits: Sequence[_Fit], tried: Sequence[str], unreadable: Sequence[str], tensors: int) -> str:
    """The rest of the refusal: why no declaration can be borrowed, and the next step.

    Args:
        fits: how the declarations fit that can read the config, the nearest first.
        tried: names of those whose twin failed.
        unreadable: for each of the others, what it misses in the config.
        tensors: the number of the model's tensors.
    """
    if tried:
        named = ", ".join(f"'{name}'" for name in tried)
        return (
            f"; every parameter fits {named}, but the twin does not compute the same after growth, so the model's "
            "code is another. Declare it with growth.register."
        )
    if not fits or fits[0].fitting < NEAR * tensors:
        closest = (
            f"the nearest declaration describes {fits[0].fitting} of its {tensors} tensors"
            if fits
            else f"no declaration can read its config: {Counter(unreadable).most_common(1)[0][0]}"
        )
        return f", and {closest}. `grow architectures` lists the declared ones; growth.register adds yours."
    nearest = fits[0]
    listed = [f"{what} ({count} of them)" if count > 1 else what for what, count in nearest.tensors.items()]
    listed += [f"config field '{name}' is {value!r}" for name, value in nearest.fields.items()]
    more = f"; and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
    vouch = "Add --vouch FIELD for a field that does not matter, or declare" if nearest.fields else "Declare"
    return (
        f", and the nearest, '{nearest.name}', does not fit: {'; '.join(listed[:LISTED])}{more}. {vouch} the model "
        "with growth.register."
    )


def _twin_difference(raw: Mapping[str, Any], options: Options, architecture: Architecture) -> float | None:
    """The difference of the twin under a declaration; None if the twin cannot be run."""
    try:
        with torch.random.fork_rng(devices=[]):
            return twin_report(raw, options, declared=Declared(architecture)).difference
    except (GrowthError, *FOREIGN_ERRORS):
        return None


def _fit(
    name: str, config: Config, model_class: type[PreTrainedModel], shapes: Shapes, vouch: Collection[str]
) -> _Fit:
    """How the declaration ``name`` fits a model of another ``model_type``. Raises what reading its
    sizes from the config raises."""
    base = architectures.find(name)
    prefixes = {*base.prefixes, *filter(None, [model_class.base_model_prefix])}
    borrowed = replace(
        base,
        model_type=str(config.parsed.model_type),
        prefixes=tuple(sorted(prefixes)),
        module_class=None,
        config_class=None,
    )
    architecture = borrowed.at(config.parsed)
    sizes = architecture.read_sizes(config.parsed)
    maps = architecture.maps(config.parsed, sizes, sizes, "unit", "slots")
    misfits: Counter[str] = Counter()
    fitting, followed = 0, set()
    for tensor, shape in shapes.items():
        canonical = architecture.canonical(tensor)
        if architecture.is_buffer(canonical):
            continue
        try:
            roles = architecture.declared_roles(canonical, model_class.__name__)
            fits = (
                roles is not None
                and len(roles) == len(shape)
                and all(role.resolve(size, maps).old == size for role, size in zip(roles, shape, strict=True))
            )
        except (UnsupportedModelError, ValueError):
            fits = False
        if fits and roles is not None:
            fitting += 1
            followed.add(roles)
        else:
            misfits[f"tensor '{re.sub(r'(?<=[.])[0-9]+(?=[.])', '*', canonical)}' of shape {list(shape)}"] += 1
    fields = _unsupported(config, architecture, name, vouch)
    declared = sum(len(rule) for rule in architecture.modules.values())
    return _Fit(name, borrowed, misfits, fields, fitting, declared - len(followed), len(architecture.laws))


def _unsupported(config: Config, architecture: Architecture, name: str, vouch: Collection[str]) -> dict[str, Any]:
    """Config fields that a borrowed declaration does not support.

    The class is not the one that was declared, so its own defaults are not supported: a field must
    be empty, or have the default of the class that the declaration ``name`` was made for."""
    parsed: PreTrainedConfig = config.parsed
    known = {*architecture.vouched, *allowed_fields(parsed, architecture, vouch)}
    defaults = parse({"model_type": name}).to_dict()
    differing = {
        field: value
        for field, value in parsed.to_dict().items()
        if value and value != defaults.get(field) and field not in known and not is_neutral(field)
    }
    return {**unsupported_fields(config, architecture, vouch), **differing}
