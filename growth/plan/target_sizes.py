"""Target sizes: what a model grows to, from a ratio, from sizes by name, or from both.

What the caller names is fixed. What is not named follows: features (hidden_size,
intermediate_size) times the ratio, and either the heads or head_dim likewise, whichever
``attention`` says. Few ratios lead to whole numbers that still divide as they did, so combinations
near the wanted one are tried in the order of their distance until every law and the config class
accept one (`growth.plan.size_search`). The same search suggests the nearest sizes that work where a
request is refused, and finds the sizes of the miniature that stands for a growth
(`growth.proof.twin`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from growth.architectures.sizes import Size, Sizes
from growth.errors import GrowthError, IllegalGrowthError, IllegalShapeError
from growth.plan.choice_checks import width_text
from growth.plan.model_sizes import ModelSizes
from growth.plan.nearby_sizes import around, is_met, near, within_reach
from growth.plan.options import Options
from growth.plan.requested_sizes import RequestedSizes, listed, requested_sizes
from growth.plan.size_reasons import size_reasons
from growth.plan.size_rules import DERIVED_INSTEAD, size_options
from growth.plan.size_search import PricedSize, SizeOptions, by_cost, first

T = TypeVar("T")

LEAST_FEATURES = 0.5
"""How many features a width must add to hidden_size: those that do not round to one add none."""

MULTIPLE_UNLIKE_REAL = 1.0
"""In the miniature: a whole multiple where the real model has none, or the reverse."""


@dataclass(frozen=True)
class TargetSizes:
    """The sizes to grow to.

    Args:
        sizes: size name -> new value, for all sizes of the model.
        why: size name -> why it is that, in a few words.
    """

    sizes: Mapping[str, int]
    why: Mapping[str, str]


def choose(
    table: Mapping[str, Size],
    config: Any,
    old: Sizes,
    options: Options,
    written: frozenset[str],
    check: Callable[[Sizes], T],
) -> tuple[TargetSizes, T]:
    """The target sizes for the caller's options, and what ``check`` made of them.

    Args:
        table: the sizes, by name.
        config: the parsed config.
        old: its sizes.
        options: the caller's.
        written: the sizes that config.json writes down.
        check: raises GrowthError for sizes that some law or the config class refuses.

    Raises:
        IllegalGrowthError: if no sizes do; it suggests the nearest that work.
    """
    model = ModelSizes(table, config, old, written)
    requested = requested_sizes(model, options)
    wanted = size_options(model, options, requested)
    kept = [
        name
        for name, size in table.items()
        if size.grows in ("heads", "head-dim") and size.grows != options.attention and name not in requested.values
    ]
    check = _not_beyond(check, model, kept)
    grown = {name: _grown(model, name, options, values) for name, values in wanted.items()}
    found, refusal = first(model, {name: _reachable(table[name], values) for name, values in grown.items()}, check)
    if found is not None:
        sizes, checked = found
        return TargetSizes(sizes, size_reasons(model, sizes, grown)), checked
    if refusal is not None and not isinstance(refusal, IllegalShapeError):
        raise refusal  # other sizes would not help
    refusal = refusal or _adds_nothing(model, options, grown)
    relaxed = {name: _relaxed(model, name, requested, values) for name, values in wanted.items()}
    nearest, hopeless = first(model, relaxed, check)
    if hopeless is not None and not isinstance(hopeless, IllegalShapeError):
        raise hopeless
    raise _refusal(model, options, requested, wanted, refusal, nearest and nearest[0])


def sizes_in_ratio(
    table: Mapping[str, Size],
    config: Any,
    old: Sizes,
    real: tuple[Sizes, Sizes],
    check: Callable[[Sizes], T],
) -> tuple[TargetSizes, T]:
    """The sizes a miniature grows to, if the real model grows from the first of two sizes to the
    second: kept where they are kept, larger where they are larger, whole multiples where they are,
    and otherwise as near that ratio as the laws allow.

    Args:
        table, config, old, check: as for `choose`, of the miniature.
        real: (old sizes, new sizes) of the model that it stands for.

    Raises:
        IllegalGrowthError: if there are no such sizes.
    """
    model = ModelSizes(table, config, old)
    check = _not_beyond(check, model, [name for name in table if real[0].get(name) == real[1].get(name)])
    options = {
        name: _in_ratio(old[name], size, real[0][name], real[1][name]) for name, size in model.choosable.items()
    }
    found, refusal = first(model, options, check)
    if found is None:
        raise refusal or IllegalGrowthError(
            "no sizes of the miniature grow in the ratios of the model's. Please report the config and the options."
        )
    return TargetSizes(found[0], {}), found[1]


def _in_ratio(old: int, size: Size, real_old: int, real_new: int) -> SizeOptions:
    """The values of one size of the miniature, where the real one grows from ``real_old`` to
    ``real_new``."""
    derived = (DERIVED_INSTEAD,) if size.follows else ()
    if real_old == real_new:
        return SizeOptions((PricedSize(0.0, old), *derived), "kept")
    values = near(old, old * real_new / real_old, size).values
    costs = {priced.value: priced.cost for priced in values if priced.value not in (None, old)}  # it proves no more
    if old * real_new % real_old == 0:
        costs[old * real_new // real_old] = 0.0
    multiple = real_new % real_old == 0
    priced = [
        PricedSize(
            cost + (MULTIPLE_UNLIKE_REAL if (value % old == 0) != multiple else 0.0),
            value,
        )
        for value, cost in costs.items()
    ]
    return SizeOptions(tuple(sorted([*priced, *derived], key=by_cost)), "like the model")


def _not_beyond(check: Callable[[Sizes], T], model: ModelSizes, kept: Collection[str]) -> Callable[[Sizes], T]:
    """A check that blames what a choice rules out on the sizes that grow although nobody asked for
    it, so that the search goes on without them. To refuse wider heads with "use more heads" is no
    answer to who asked for more heads.

    Args:
        check: raises GrowthError for sizes that some law or the config class refuses.
        model: the sizes before growth.
        kept: the sizes that should stay, but may grow where nothing else fits.
    """

    def checked(sizes: Sizes) -> T:
        try:
            return check(sizes)
        except IllegalGrowthError as error:
            beyond = [name for name in kept if sizes[name] != model.old[name]]
            if isinstance(error, IllegalShapeError) or not beyond:
                raise
            raise IllegalShapeError(f"{str(error).rpartition('. ')[0] or error}.", beyond) from error

    return checked


def _grown(model: ModelSizes, name: str, options: Options, values: SizeOptions) -> SizeOptions:
    """What a size may be. A width multiplies hidden_size, so that it grows, or nothing does."""
    if options.width is None or values.named or values.wanted is None or name.rpartition(".")[2] != "hidden_size":
        return values
    old = model.old[name]
    if values.wanted < old + LEAST_FEATURES:
        return SizeOptions((), values.why, values.wanted)
    return replace(values, values=tuple(priced for priced in values.values if priced.value != old) or values.values)


def _adds_nothing(model: ModelSizes, options: Options, grown: Mapping[str, SizeOptions]) -> GrowthError | None:
    """The refusal of a width that is too near 1 to add a feature."""
    for name, values in grown.items():
        if not values.values and options.width is not None:
            added = (values.wanted or 0) - model.old[name]
            return IllegalShapeError(
                f"width {width_text(options.width)} adds {added:.2g} features to {name} {model.old[name]}, and there "
                "are only whole ones."
            )
    return None


def _reachable(size: Size, values: SizeOptions) -> SizeOptions:
    """Features that were not named may not be far from the ratio asked for."""
    return values if values.named or size.grows != "width" else within_reach(values)


def _relaxed(model: ModelSizes, name: str, requested: RequestedSizes, values: SizeOptions) -> SizeOptions:
    """What a size may be in the shape that a refusal suggests: sizes near the requested ones, and a
    hidden_size that grows."""
    size, old = model.table[name], model.old[name]
    if name in requested.values:
        return around(old, requested.values[name], size)
    if name.rpartition(".")[2] != "hidden_size":
        return values
    if values.wanted is None:  # kept, unless what is requested takes it along
        return around(old, old, size)
    larger = tuple(priced for priced in values.values if priced.value != old)
    return SizeOptions(larger or values.values, values.why, values.wanted)


def _refusal(
    model: ModelSizes,
    options: Options,
    requested: RequestedSizes,
    wanted: Mapping[str, SizeOptions],
    refusal: GrowthError | None,
    nearest: Mapping[str, int] | None,
) -> GrowthError:
    """What was asked for, why it does not work, and the nearest sizes that do."""
    asked = {name for name, values in wanted.items() if name in requested.values or values.wanted is not None}
    said = str(refusal) if refusal is not None else _does_not_fit(model, asked, wanted)
    if nearest is None:
        fewer = "hidden_size and intermediate_size of the other model" if options.like else "fewer sizes"
        return IllegalShapeError(f"{said} None was found near it that works. Name {fewer}, or a width alone.")
    # Also the sizes that would go along, so that these, all named, are the whole answer.
    along = {
        name
        for name in wanted
        if model.table[name].grows != "never"
        and (model.table[name].follows is None or name not in model.always_derived)
    }
    named = {
        name: nearest[name] for name in wanted if nearest[name] != model.old[name] or name in asked or name in along
    }
    return IllegalShapeError(f"{said} The nearest shape that works: {listed(named)}.")


def _does_not_fit(model: ModelSizes, asked: Collection[str], wanted: Mapping[str, SizeOptions]) -> str:
    """Why the combination that comes closest to the request does not fit together."""
    closest = {name: values.values[0].value for name, values in wanted.items()}
    said = [_closest(name, closest[name], wanted[name].wanted) for name in wanted if name in asked]
    return f"no sizes near {', '.join(filter(None, said))} fit together: {model.misfit(closest)}"


def _closest(name: str, value: int | None, aim: float | None) -> str:
    """``name 2 (nearest to 2.333)``; empty for a size that is derived."""
    if value is None:
        return ""
    return f"{name} {value}" if aim is None or is_met(value, aim) else f"{name} {value} (nearest to {aim:.4g})"
