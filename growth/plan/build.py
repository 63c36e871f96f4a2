"""Building a plan from a config and the shapes of its tensors.

In this order: the declaration adapted to the config; what is taken over from another model
(`growth.plan.taken_over`); what the model gets more of at unchanged widths (`growth.extension`);
the roles of every tensor; the target sizes, and with them how every space grows
(`growth.plan.target_sizes`, `growth.plan.candidate`); where copies may differ
(`growth.plan.tied_weights`); and what all that makes of each tensor."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from growth import architectures
from growth.algebra.axes import Space
from growth.algebra.dimensions import Dimension
from growth.algebra.maps import Map
from growth.architectures.architecture import Architecture
from growth.architectures.sizes import Sizes
from growth.errors import IllegalGrowthError
from growth.extension.experts import expert_size
from growth.extension.extend import extend
from growth.extension.extension import Extension
from growth.extension.request import EXPERT_SIZE, Request
from growth.hf.config_fields import check_fields
from growth.hf.config_json import is_written
from growth.hf.configs import Config
from growth.hf.expected_tensors import Shapes, expected_tensors, inventory, not_saved
from growth.hf.model_classes import class_of
from growth.plan import dead_units
from growth.plan.beside import Beside
from growth.plan.candidate import Candidate, candidate
from growth.plan.declared import Declared
from growth.plan.hidden_states import equal_hidden_state, hidden_state_notes
from growth.plan.noise_limit import check_noise_at_depth, layers_of
from growth.plan.options import KEEP, Options
from growth.plan.plan import Plan
from growth.plan.planned_tensor import planned_tensor
from growth.plan.requested_sizes import listed
from growth.plan.symmetry import AUTO
from growth.plan.taken_over import TakenOver, reached, take_over
from growth.plan.target_sizes import TargetSizes, choose, sizes_in_ratio
from growth.plan.tied_weights import Ties, around_ties, read_by_ties


def build_plan(
    raw: Mapping[str, Any],
    shapes: Shapes,
    options: Options,
    declared: Declared | None = None,
    *,
    dtypes: Mapping[str, torch.dtype] | None = None,
    in_ratio_of: tuple[Sizes, Sizes] | None = None,
    extends: Request | None = None,
) -> Plan:
    """The plan for a config and the shapes of its tensors.

    Args:
        raw: the config.
        shapes: tensor name -> shape.
        options: the caller's.
        declared: the declaration; by default that of the config's ``model_type``.
        dtypes: tensor name -> dtype, where the weights are known.
        in_ratio_of: old and new sizes of a model that this one is a miniature of. The miniature grows
            in the same ratios, whatever sizes the options name.
        extends: what the miniature has more of, then; by default what the options ask for.

    Raises:
        UnsupportedModelError: for a model type, config field or tensor that is not declared.
        IllegalGrowthError: for sizes or choices no law allows.
        CheckpointError: for a missing tensor or a wrong shape.
    """
    build = partial(_build, raw, shapes, declared=declared, dtypes=dtypes, in_ratio_of=in_ratio_of, extends=extends)
    plan = build(options.at_depth(layers_of(shapes, raw)))  # right for most, so that planning again is seldom
    depth = layers_of(plan.tensors, plan.new)
    if options.symmetry == AUTO:
        settled = options.at_depth(depth)
        return plan if settled.symmetry == plan.options.symmetry else build(settled)
    if in_ratio_of is None:  # a miniature takes what the model takes
        check_noise_at_depth(options.breaking, depth)
    return plan


def _build(
    raw: Mapping[str, Any],
    shapes: Shapes,
    options: Options,
    declared: Declared | None,
    dtypes: Mapping[str, torch.dtype] | None,
    in_ratio_of: tuple[Sizes, Sizes] | None,
    extends: Request | None,
) -> Plan:
    """The plan once it is said how copies are to differ; arguments as for `build_plan`."""
    source = Config.of(raw)
    declared = declared or Declared(architectures.find(str(source["model_type"])))
    architecture = declared.base.at(source.parsed)
    check_fields(source, architecture, options.vouch)
    model_class = class_of(source)
    before = architecture.read_sizes(source.parsed)
    found = inventory(source, shapes, architecture, model_class)
    left_out, said = found.left_out, found.notes
    held = {name: shapes[name] for name in found.known}
    asked, taken = options, TakenOver(options)
    if in_ratio_of is None:
        taken = take_over(Beside(source, architecture, model_class, options, before))
        options = taken.options
    extending = partial(extend, source, held, architecture, model_class)
    extension = taken.extended(extending) if extends is None else extending(extends)
    config, old = source, before
    if extension is not None:
        config, shapes, dtypes = extension.new, extension.new_shapes, extension.new_dtypes(dtypes or {})
        architecture = declared.base.at(config.parsed)
        old = architecture.read_sizes(config.parsed)
        found = inventory(config, shapes, architecture, model_class)
    roles = {name: architecture.roles(architecture.canonical(name), model_class.__name__) for name in found.known}
    combinations = set(roles.values())

    def settle(maps: dict[Space, Map]) -> Mapping[Space, Map]:
        if options.last_hidden_state != "equal":
            return maps
        return equal_hidden_state(
            maps, architecture, model_class, read_by_ties(found.tied, architecture, model_class.__name__)
        )

    def tried(new: Sizes) -> Candidate:
        return candidate(config, declared.base, architecture, options, old, new, combinations, settle)

    if in_ratio_of is None and extension is None and not options.widens:
        raise IllegalGrowthError(
            f"{listed(options.sizes)} is what the model has already, so nothing would grow. Name a larger number, "
            "or a width."
        )
    widens = (
        _widens(options, architecture, old, extension) if in_ratio_of is None else in_ratio_of[0] != in_ratio_of[1]
    )
    if not widens:
        sizes, chosen = TargetSizes(old, dict.fromkeys(old, "kept")), tried(old)
    elif in_ratio_of is None:
        written = frozenset(name for name, field in architecture.fields().items() if is_written(config, field))
        sizes, chosen = taken.widened(lambda: choose(architecture.sizes, config.parsed, old, options, written, tried))
    else:
        sizes, chosen = sizes_in_ratio(architecture.sizes, config.parsed, old, in_ratio_of, tried)
    ties = Ties()
    if options.breaking.breaks:
        ties = around_ties(
            roles, found.tied, architecture, model_class.__name__, chosen.maps, options.breaking.for_hidden_states
        )
    resolved: dict[Hashable, tuple[Dimension, ...]] = {}
    tensors = {
        name: planned_tensor(name, shapes[name], architecture, roles[name], chosen.maps, options, ties, resolved)
        for name in found.known
    }
    added = extension.sizes if extension else {}
    grown, about_the_other = reached(taken, chosen.config)
    return Plan(
        declared,
        architecture,
        model_class,
        asked,
        old_sizes={**before, **{name: pair[0] for name, pair in added.items() if name not in before}},
        new_sizes={**sizes.sizes, **{name: pair[1] for name, pair in added.items() if name not in before}},
        why=_why(sizes, old, extension),
        maps={**chosen.maps, **ties.maps},
        tensors=tensors,
        old=source,
        new=grown,
        dtypes=dict(dtypes or {}),
        left_out=tuple(left_out),
        notes=(
            *_about_the_declaration(declared, config),
            *architecture.remarks(config, model_class.__name__),
            *said,
            *about_the_other,
            *(extension.notes if extension else ()),
            *chosen.notes,
            *ties.notes,
            *(() if options.breaking.noise else dead_units.notes(chosen.maps, architecture.laws, combinations)),
            *hidden_state_notes(chosen.maps, architecture, model_class, options.last_hidden_state == "equal"),
            *_about_saving(model_class, tensors),
            *_about_symmetry(options, widens),
        ),
        lossy=chosen.lossy or not (extension is None or extension.silent),
        extension=extension,
    )


def plan_config(raw: Mapping[str, Any], options: Options, declared: Declared | None = None) -> Plan:
    """The plan for a config alone, whose tensors are those of the class it names.

    Args:
        raw: the config.
        options: the caller's.
        declared: the declaration; by default that of the config's ``model_type``.

    Raises:
        GrowthError: as `build_plan`.
    """
    config = Config.of(raw)
    shapes, ties = expected_tensors(config, class_of(config))
    return build_plan(config, {name: shape for name, shape in shapes.items() if name not in ties}, options, declared)


def _widens(options: Options, architecture: Architecture, old: Sizes, extension: Extension | None) -> bool:
    """Whether anything is left to become wider once a model is extended to sizes ``old``."""
    if extension is None or options.width is not None:
        return options.widens
    standard = {field: name for name, field in architecture.fields().items()}
    standard[EXPERT_SIZE] = expert_size(old)
    like = {standard.get(name, name): size for name, size in options.like.sizes.items()}
    named = {standard.get(name, name): size for name, size in options.extends.for_widening.items()}
    return any(size not in (KEEP, old.get(name)) for name, size in named.items()) or any(
        size != old.get(name, size) for name, size in like.items() if name not in named
    )


def _why(sizes: TargetSizes, old: Sizes, extension: Extension | None) -> dict[str, str]:
    """Why each size becomes what it does: by extension, by widening, or by one after the other."""
    why, added = dict(sizes.why), extension.why if extension else {}
    for name, reason in added.items():
        also = name in old and sizes.sizes[name] != old[name]
        why[name] = f"{reason}, then {why[name]}" if also and name in why else reason
    return why


def _about_the_declaration(declared: Declared, config: Config) -> Iterator[str]:
    if declared.looks_like is not None:
        yield (
            f"model_type '{config['model_type']}' is not declared; it looks like '{declared.looks_like}': every "
            "parameter and config field fits, and the twin decides"
        )
    if declared.inferred:
        yield (
            f"model_type '{config['model_type']}' is not declared; what its parameters do was inferred on a "
            "miniature: whole multiples, more heads of the same size, copies of scale 1"
        )


def _about_saving(model_class: type[PreTrainedModel], tensors: Iterable[str]) -> Iterator[str]:
    if dropped := not_saved(model_class, tensors):
        yield (
            f"save_pretrained of {model_class.__name__} leaves out {', '.join(dropped)}, and a wider model computes "
            "others; before saving the widened model again, set model._keys_to_ignore_on_save = set()"
        )


def _about_symmetry(options: Options, widens: bool) -> Iterator[str]:
    if widens and not options.breaking.breaks:
        yield (
            "with symmetry none the copies are equal and train as one (unless moments fresh part them, slowly), so "
            "that the wide model learns what the small one would; leave that out to train on"
        )
