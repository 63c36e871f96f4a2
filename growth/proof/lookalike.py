"""A borrowed declaration for a ``model_type`` that has none.

Many new models are a known block under a new name. Every declaration is tried on such a model. It
fits if each parameter has a role of the right size and each config field is supported. Whether the
model's *code* computes what the declaration says is then decided by the twin, in float64. If none
fits, the model is refused: with its kind, if it is of one that no declaration describes
(`growth.proof.kinds`), or else with what does not fit the declaration that describes most of its
tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from growth import architectures
from growth.architectures.architecture import Architecture
from growth.architectures.registry import is_declared
from growth.errors import FOREIGN_ERRORS, GrowthError, IllegalGrowthError, UnsupportedModelError, shown
from growth.hf.config_fields import allowed_fields, is_neutral, unsupported_fields
from growth.hf.configs import Config, parse
from growth.hf.expected_tensors import Shapes, expected_tensors
from growth.hf.model_classes import class_of
from growth.plan.declared import Declared
from growth.plan.options import Options
from growth.proof.kinds import kind, of_parts, parts, pattern
from growth.proof.trial import Trial, trial

TRIES = 8
"""The largest number of declarations whose twin is run."""


LISTED = 3
"""The largest number of misfits, or of declarations, that a message lists."""


NEAR = 1 / 3
"""The smallest part of a model's tensors that a declaration must describe to be named as the
nearest."""


_Kinds = Mapping[tuple[str, tuple[int, ...]], int]
"""(name of a tensor, its shape) -> how many tensors of the model are like it but for the numbers in
their names."""


@dataclass(frozen=True)
class _Fit:
    """How well one declaration describes a model.

    Args:
        name: the declaration's own ``model_type``.
        architecture: the declaration under the ``model_type`` of the model.
        described: the number of tensors that it has a rule for: of their size, or, where it cannot
            read the sizes, of their number of dimensions.
        tensors: the others, layer numbers as ``*`` -> how many.
        fields: config fields that are not supported, with their values.
        unread: why it cannot read the sizes of the config; empty if it can.
        unused: the number of kinds of parameter that it describes and the model does not have.
        laws: the number of its laws; of two that fit equally well, the one with fewer is tried
            first.
    """

    name: str
    architecture: Architecture
    described: int
    tensors: Counter[str]
    fields: Mapping[str, Any]
    unread: str
    unused: int
    laws: int

    @property
    def whole(self) -> bool:
        """Whether every tensor and every field fits."""
        return not (self.tensors or self.fields or self.unread)

    @property
    def distance(self) -> tuple[Any, ...]:
        """By which the nearest comes first: it describes most tensors, and then reads the config."""
        return -self.described, bool(self.unread), len(self.fields), self.unused, self.laws

    def misfits(self) -> Iterator[str]:
        """What does not fit, a few words each."""
        yield from filter(None, [self.unread])
        yield from (f"{what} ({count} of them)" if count > 1 else what for what, count in self.tensors.items())
        yield from (f"config field '{name}' is {shown(value)}" for name, value in self.fields.items())


def declaration(raw: Mapping[str, Any], options: Options, shapes: Shapes | None = None) -> Declared:
    """The declaration for a config: that of its ``model_type``, or one that fits and that the twin
    confirms.

    Args:
        raw: the config.
        options: the caller's.
        shapes: tensor name -> shape, of the file; by default those of the config's class.

    Raises:
        UnsupportedModelError: if the ``model_type`` is not declared and no declaration fits.
        IllegalGrowthError: if one fits, and refuses these options.
    """
    config = Config.of(raw)
    model_type = str(config.parsed.model_type)
    if is_declared(model_type):
        return Declared(architectures.find(model_type))
    undeclared = f"no architecture is declared for model_type '{model_type}'"
    model_class = class_of(config)
    expected = expected_tensors(config, model_class)[0]
    if shapes is not None and len(shapes.keys() & expected.keys()) < len(shapes) / 2:
        fits = _fits(config, model_class, shapes, options.vouch)
        raise UnsupportedModelError(f"{undeclared}, and {_of_another(fits, model_class, shapes)}")
    fits = _fits(config, model_class, expected, options.vouch)
    tried: dict[str, Trial] = {}
    for fit in [fit for fit in fits if fit.whole][:TRIES]:
        tried[fit.name] = trial(config, options, fit.architecture)
        if tried[fit.name].exact:
            return Declared(fit.architecture, fit.name)
    for fit in fits:  # of what the options refuse, is any a declaration of this model?
        refused = tried[fit.name].refused if fit.name in tried else None
        if refused is not None and trial(config, Options(vouch=options.vouch), fit.architecture).exact:
            raise IllegalGrowthError(
                f"model_type '{model_type}' is not declared and grows like '{fit.name}': {refused}"
            )
    why = _tried(tried) if tried else _nearest(fits, config, expected)
    raise UnsupportedModelError(undeclared + why)


def _fits(config: Config, model_class: type[PreTrainedModel], shapes: Shapes, vouch: Collection[str]) -> list[_Fit]:
    """How every declaration fits, the nearest first."""
    kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():  # layers, and experts, are alike: one of each is looked at
        kinds.setdefault(f"{pattern(name)} {shape}", (name, shape))
    counts = Counter(f"{pattern(name)} {shape}" for name, shape in shapes.items())
    each = {one: counts[kind] for kind, one in kinds.items()}
    return sorted(
        (_fit(name, config, model_class, each, vouch) for name in architectures.known()),
        key=lambda fit: fit.distance,
    )


def _tried(tried: Mapping[str, Trial]) -> str:
    """The rest of the refusal where every parameter fits some declarations: what their twins say."""
    said: dict[str, list[str]] = {}
    for name, one in tried.items():
        said.setdefault(one.said, []).append(f"'{name}'")
    listed = "; ".join(f"under {', '.join(names[:LISTED])} {what}" for what, names in list(said.items())[:LISTED])
    if all(one.refused is not None for one in tried.values()):
        return f"; every parameter fits, but {listed}"
    return f"; every parameter fits, but {listed}. Declare the model with growth.register."


def _nearest(fits: Sequence[_Fit], config: Config, shapes: Shapes) -> str:
    """The rest of the refusal where no declaration fits."""
    nearest = fits[0]
    sections, whole = parts(config), nearest.described == len(shapes)
    if sections and not whole:
        return f"; it is {of_parts(sections)}"
    its_kind = "" if whole else kind(config, shapes)
    said = f"; it is {its_kind}, and" if its_kind else ", and"
    if nearest.described < NEAR * len(shapes):
        return (
            f"{said} the nearest declaration describes {nearest.described} of its {len(shapes)} tensors. "
            "`grow architectures` lists the declared ones; growth.register adds yours."
        )
    misfits = list(nearest.misfits())
    more = f"; and {len(misfits) - LISTED} more" if len(misfits) > LISTED else ""
    of = "" if whole else f" (it describes {nearest.described} of {len(shapes)} tensors)"
    only_fields = whole and not nearest.unread
    step = "Add --vouch FIELD for a field that does not matter, or declare" if only_fields else "Declare"
    return (
        f"{said} the nearest, '{nearest.name}', does not fit{of}: {'; '.join(misfits[:LISTED])}{more}. {step} the "
        "model with growth.register."
    )


def _of_another(fits: Sequence[_Fit], model_class: type[PreTrainedModel], shapes: Shapes) -> str:
    """What a file holds that has other tensors than the class that its config names."""
    told = f"the file's tensors are not those of a {model_class.__name__}"
    nearest = fits[0]
    if nearest.described == len(shapes):
        return f"{told}; each has a rule in '{nearest.name}'. Correct 'model_type' and 'architectures' in config.json."
    first = next(iter(nearest.tensors or shapes))
    return f"{told}, and no declaration describes all of them, such as {first}. Check config.json."


def _fit(
    name: str, config: Config, model_class: type[PreTrainedModel], shapes: _Kinds, vouch: Collection[str]
) -> _Fit:
    """How the declaration ``name`` fits a model of another ``model_type``."""
    base = architectures.find(name)
    prefixes = {*base.prefixes, *filter(None, [model_class.base_model_prefix])}
    borrowed = replace(
        base,
        model_type=str(config.parsed.model_type),
        prefixes=tuple(sorted(prefixes)),
        module_class=None,
        config_class=None,
    )
    try:
        architecture = borrowed.at(config.parsed)
        sizes = architecture.read_sizes(config.parsed)
        maps = architecture.maps(config.parsed, sizes, sizes, "unit", "slots")
        fields = _unsupported(config, architecture, name, vouch)
        unread = ""
    except (GrowthError, *FOREIGN_ERRORS) as error:  # its sizes are not in this config
        architecture, maps, fields, unread = borrowed, None, {}, _why_unread(error)
    misfits: Counter[str] = Counter()
    described, followed = 0, set()
    for (tensor, shape), count in shapes.items():
        canonical = architecture.canonical(tensor)
        if architecture.is_buffer(canonical):
            described += count
            continue
        try:
            roles = architecture.declared_roles(canonical, model_class.__name__)
            fits = roles is not None and len(roles) == len(shape)
            if fits and roles is not None and maps is not None:
                fits = all(role.resolve(size, maps).old == size for role, size in zip(roles, shape, strict=True))
        except (UnsupportedModelError, ValueError):
            fits = False
        if fits and roles is not None:
            described += count
            followed.add(roles)
        else:
            misfits[f"tensor '{pattern(canonical)}' of shape {list(shape)}"] += count
    declared = sum(len(rule) for rule in architecture.modules.values())
    return _Fit(name, borrowed, described, misfits, fields, unread, declared - len(followed), len(architecture.laws))


def _why_unread(error: Exception) -> str:
    """Why a declaration cannot read a config, without the next step of its own message."""
    said = str(error).partition(". ")[0].rstrip(".")
    return said if isinstance(error, GrowthError) else f"it cannot be applied to this config ({said[:200]})"


def _unsupported(config: Config, architecture: Architecture, name: str, vouch: Collection[str]) -> dict[str, Any]:
    """Config fields that a borrowed declaration does not support.

    The class is not the one that was declared, so its own defaults are not supported: a field must
    be empty, or have the default of the class that the declaration ``name`` was made for."""
    differing = _differing(config.parsed, parse({"model_type": name}), architecture, vouch)
    return {**unsupported_fields(config, architecture, vouch), **dict(differing)}


def _differing(
    parsed: PreTrainedConfig, stock: Any, architecture: Architecture, vouch: Collection[str], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """(path, value) of the fields of one section of a config, and those inside it, that have neither
    a supported value nor that of ``stock``, the default of the declared class."""
    supported = {path.removeprefix(prefix) for path in architecture.vouched if path.startswith(prefix)}
    known = {*supported, *allowed_fields(parsed, architecture, vouch, prefix)}
    defaults = stock.to_dict() if isinstance(stock, PreTrainedConfig) else {}
    for field, value in parsed.to_dict().items():
        section = getattr(parsed, field, None) if field in parsed.sub_configs else None
        if isinstance(section, PreTrainedConfig):
            yield from _differing(section, getattr(stock, field, None), architecture, vouch, f"{prefix}{field}.")
        elif value and value != defaults.get(field) and field not in known and not is_neutral(field):
            yield f"{prefix}{field}", value
