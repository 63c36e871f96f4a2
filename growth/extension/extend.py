"""What the caller asks for, as an extension."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction

from transformers import PreTrainedModel

from growth.architectures.architecture import Architecture
from growth.architectures.choosable import choosable_sizes
from growth.architectures.sizes import Sizes
from growth.errors import IllegalGrowthError
from growth.extension.expert_copies import with_more_experts
from growth.extension.experts import asked_copies, expert_size, experts_of
from growth.extension.extension import Extension, Shapes, unextended
from growth.extension.kv_heads import HEADS, KV_HEADS, QUERIES, parted, with_more_key_value_heads
from growth.extension.layers import with_more_layers
from growth.extension.request import (
    CHOSEN,
    EXPERT_SIZE,
    EXPERTS,
    LAYERS,
    Request,
    counts_chosen,
    counts_experts,
    counts_layers,
)
from growth.extension.stacks import LayerList, layer_lists, no_such_list
from growth.extension.untied import with_own_head
from growth.hf.configs import BUILT, Config

LARGEST_RATIO = 64
"""The largest denominator of a width that is meant as a fraction, such as 5/3."""


def extend(
    config: Config,
    shapes: Shapes,
    architecture: Architecture,
    model_class: type[PreTrainedModel],
    request: Request,
) -> Extension | None:
    """The extension that the caller asks for; None if he asks for none.

    Args:
        config, shapes: of the model.
        architecture: the declaration at that config.
        model_class: its class.
        request: what it is to have more of.

    Raises:
        IllegalGrowthError: if it cannot have that.
    """
    result = unextended(config, shapes)
    if request.untie:
        result = result.then(with_own_head(config, shapes, architecture, model_class))
    for prefix, copies in _key_value_heads(config, architecture, request):
        result = result.then(
            with_more_key_value_heads(result.new, result.new_shapes, architecture, model_class, prefix, copies)
        )
    sizes = architecture.read_sizes(config.parsed)
    if asked := _asked_of_experts(sizes, request):
        experts = experts_of(config, architecture, model_class)
        copies, parts = asked_copies(experts, asked, sizes.get(expert_size(sizes), 0))
        if experts is not None and copies > 1:
            step = with_more_experts(
                result.new,
                result.new_shapes,
                architecture,
                model_class,
                experts,
                copies,
                parts,
                request.noise,
                request.seed,
            )
            result = result.then(step)
    if layers_asked := {name: size for name, size in request.sizes.items() if counts_layers(name)}:
        lists = layer_lists(config, architecture, model_class)
        for layers, wanted in _numbers(layers_asked, lists, config, model_class).values():
            step = with_more_layers(
                result.new,
                result.new_shapes,
                architecture,
                model_class,
                lists,
                layers,
                wanted,
                request.insert,
                request.silent,
                request.per_layer,
            )
            result = result.then(step)
            lists = [one if one != layers else replace(one, count=wanted) for one in lists]
        result = replace(result, notes=(*result.notes, *_about_the_cache(result.new, model_class, lists)))
    return result if result.sizes or result.untied else None


def _about_the_cache(config: Config, model_class: type[PreTrainedModel], lists: Iterable[LayerList]) -> Iterator[str]:
    """A note where transformers makes the cache of ``generate`` for fewer layers than the decoder has:
    for as many as a T5's encoder."""
    counted = getattr(config.parsed.get_text_config(decoder=True), LAYERS, None)
    decoder = next((one for one in lists if one.name.startswith("decoder")), None)
    if not (config.parsed.is_encoder_decoder and model_class.can_generate() and decoder and isinstance(counted, int)):
        return
    if decoder.count > counted:
        yield (
            f"generate() of transformers makes its cache for {counted} layers, those of the encoder, and fails with a "
            f"decoder of {decoder.count}: give the encoder as many (--size encoder.{LAYERS}={decoder.count}), or "
            "generate with use_cache=False"
        )


def _key_value_heads(config: Config, architecture: Architecture, request: Request) -> Iterator[tuple[str, int]]:
    """(prefix of the names of sizes, how many copies of each key/value head), where those that are
    asked for are more than their heads become."""
    old = architecture.read_sizes(config.parsed)
    standard = {field: name for name, field in architecture.fields().items()}
    named = {standard.get(name, name): size for name, size in {**request.like, **request.sizes}.items()}
    asked = {name: old[name] if size == "keep" else int(size) for name, size in named.items() if name in old}
    choosable = choosable_sizes(architecture.sizes, config.parsed)
    for name in (name for name in asked if name in choosable and name.rpartition(".")[2] == KV_HEADS):
        prefix = name.removesuffix(KV_HEADS)
        if prefix + HEADS not in old:
            continue
        heads = _heads(prefix, old, asked, request)
        if asked[name] > old[name] and heads >= old[prefix + HEADS]:
            copies = parted(old, prefix, asked[name], heads)
            if copies > 1 and prefix + QUERIES not in old:
                raise IllegalGrowthError(
                    f"{name} {asked[name]} beside {float(heads):g} heads parts the queries of a head, which takes a "
                    "declaration made by hand. Name as many more heads, or declare the model with growth.register."
                )
            yield from [(prefix, copies)] if copies > 1 else []


def _heads(prefix: str, old: Sizes, asked: Sizes, request: Request) -> Fraction:
    """How many heads a model is to have: as named; else as the features, or as many as now."""
    now, named = old[prefix + HEADS], asked.get(prefix + HEADS)
    head_dim = prefix + "head_dim"
    if named is not None or not request.more_heads or asked.get(head_dim, 0) > old.get(head_dim, 0):
        return Fraction(now if named is None else named)
    hidden = next((name for name in (f"{prefix}hidden_size", "hidden_size") if name in asked), "")
    ratio = Fraction(asked[hidden], old[hidden]) if hidden else Fraction(1)
    return now * (ratio if request.width is None else Fraction(request.width).limit_denominator(LARGEST_RATIO))


def _asked_of_experts(sizes: Sizes, request: Request) -> dict[str, int]:
    """What is asked for of experts, under its standard names: more of them, or smaller ones."""
    asked: dict[str, int] = {}
    size = expert_size(sizes)
    for name, value in request.sizes.items():
        keys = {EXPERTS: counts_experts(name), CHOSEN: counts_chosen(name), EXPERT_SIZE: name in (EXPERT_SIZE, size)}
        key = next((key for key, is_meant in keys.items() if is_meant), None)
        if key is None or value == "keep":
            continue
        if asked.setdefault(key, int(value)) != int(value):
            raise IllegalGrowthError(f"{name} is named twice, as {asked[key]} and as {value}. Name it once.")
    own = size != "intermediate_size" and asked.get(EXPERT_SIZE, sizes[size]) < sizes[size]
    return asked if own or EXPERT_SIZE in request.sizes or {EXPERTS, CHOSEN} & asked.keys() else {}


def _numbers(
    asked: Mapping[str, int | str], lists: list[LayerList], config: Config, model_class: type[PreTrainedModel]
) -> dict[str, tuple[LayerList, int]]:
    """List of layers -> the list and its new length, for those that become longer."""
    found: dict[str, tuple[LayerList, int]] = {}
    for name, size in asked.items():
        named = [one for one in lists if name in (one.size, one.field) or (name == LAYERS and len(lists) == 1)]
        if not named:
            raise IllegalGrowthError(no_such_list(name, size, lists, config, model_class))
        layers, wanted = named[0], named[0].count if size == "keep" else int(size)
        if wanted < layers.count:
            raise IllegalGrowthError(
                f"cannot reduce {name} from {layers.count} to {wanted}: a model with fewer layers computes another "
                f"function. Name at least {layers.count}."
            )
        if wanted > BUILT["layers"]:
            raise IllegalGrowthError(f"{name} {wanted} is more than can be built. Name at most {BUILT['layers']}.")
        if found.get(layers.name, (layers, wanted))[1] != wanted:
            raise IllegalGrowthError(f"{name} is named twice, with different values. Name it once.")
        found[layers.name] = (layers, wanted)
    return {name: pair for name, pair in found.items() if pair[1] > pair[0].count}
