"""A borrowed declaration for a ``model_type`` that has none.

Many new models are a known block under a new name. A declaration made by hand offers more than an inferred one (any
shape, wider heads), so every one is tried on such a model first. It fits if each parameter has a role of the right
size and each config field is supported. Whether the model's *code* computes what the declaration says is then decided
by the twin, in float64."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from growth import architectures
from growth.architectures.architecture import Architecture
from growth.errors import FOREIGN_ERRORS, GrowthError, IllegalGrowthError, UnsupportedModelError
from growth.hf.config_fields import allowed_fields, is_neutral, unsupported_fields
from growth.hf.configs import Config, parse
from growth.hf.expected_tensors import Shapes
from growth.infer.borrowed_trial import Trial, trial
from growth.infer.tensor_names import starred
from growth.plan.declared import Declared
from growth.plan.options import Options

TRIES = 8
"""The largest number of declarations whose twin is run."""


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


def look_alike(
    config: Config, options: Options, model_class: type[PreTrainedModel], shapes: Shapes
) -> Declared | None:
    """A declaration made for another ``model_type`` that describes a model as well.

    Args:
        config: of the model.
        options: the caller's.
        model_class: of the model.
        shapes: tensor name -> shape, of the class at this config.

    Returns:
        The first that fits and that the twin confirms; None if there is none.

    Raises:
        IllegalGrowthError: if one fits, and refuses these options.
    """
    tried: dict[str, Trial] = {}
    fits = [fit for fit in _fits(config, model_class, shapes, options.vouch) if fit.whole][:TRIES]
    for fit in fits:
        tried[fit.name] = trial(config, options, fit.architecture)
        if tried[fit.name].exact:
            return Declared(fit.architecture, fit.name)
    for fit in fits:  # of what the options refuse, is any a declaration of this model?
        refused = tried[fit.name].refused
        if refused is not None and trial(config, Options(vouch=options.vouch), fit.architecture).exact:
            raise IllegalGrowthError(
                f"model_type '{config.parsed.model_type}' is not declared and grows like '{fit.name}': {refused}"
            )
    return None


def of_another(config: Config, model_class: type[PreTrainedModel], shapes: Shapes, vouch: Collection[str]) -> str:
    """What a file holds that has other tensors than the class that its config names.

    Args:
        config, model_class, vouch: as for `look_alike`.
        shapes: tensor name -> shape, of the file.
    """
    told = f"the file's tensors are not those of a {model_class.__name__}"
    nearest = _fits(config, model_class, shapes, vouch)[0]
    if nearest.described == len(shapes):
        return f"{told}; each has a rule in '{nearest.name}'. Correct 'model_type' and 'architectures' in config.json."
    first = next(iter(nearest.tensors or shapes))
    return f"{told}, and no declaration describes all of them, such as {first}. Check config.json."


def _fits(config: Config, model_class: type[PreTrainedModel], shapes: Shapes, vouch: Collection[str]) -> list[_Fit]:
    """How every declaration fits, the nearest first."""
    kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():  # layers, and experts, are alike: one of each is looked at
        kinds.setdefault(f"{starred(name)} {shape}", (name, shape))
    counts = Counter(f"{starred(name)} {shape}" for name, shape in shapes.items())
    each = {one: counts[kind] for kind, one in kinds.items()}
    return sorted(
        (_fit(name, config, model_class, each, vouch) for name in architectures.known()),
        key=lambda fit: fit.distance,
    )


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
            misfits[f"tensor '{starred(canonical)}' of shape {list(shape)}"] += count
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
