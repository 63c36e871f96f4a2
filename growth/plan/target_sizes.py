"""Shapes: the sizes a model grows to, from a ratio, from sizes by name, or from both.

What the caller names is fixed. What is not named follows: features times the ratio, and heads or
head_dim likewise, whichever `attention` says. Few ratios give whole numbers of everything that
still divide as they did, so the shapes near the wanted one are tried in the order of their
distance, ``sum of weight * |log(size / wanted)|``, until every law and the config's own class
accept one. The same search names the nearest shape that works where a request is refused, and finds
the miniature that stands for a shape (`growth.proof.twin`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from growth.architectures.sizes import Size, Sizes
from growth.errors import GrowthError, IllegalGrowthError, IllegalShapeError
from growth.plan.options import Options
from growth.plan.size_options import _free, _implied, _listed, _loose, _named, _near, _wishes, _within
from growth.plan.size_search import Wish, first, has_field, price

T = TypeVar("T")


@dataclass(frozen=True)
class Shape:
    """The sizes to grow to, and why each is what it is."""

    sizes: Mapping[str, int]
    why: Mapping[str, str]


def choose(
    table: Mapping[str, Size],
    config: Any,
    old: Sizes,
    options: Options,
    spelled: frozenset[str],
    check: Callable[[Sizes], T],
) -> tuple[Shape, T]:
    """The shape for the caller's options, and what ``check`` made of it.

    Args:
        table: the sizes, by name.
        config: parsed.
        old: its sizes.
        options: the caller's.
        spelled: the sizes that config.json spells out.
        check: raises GrowthError for a shape that some law or the config refuses.

    Raises:
        IllegalGrowthError: naming the nearest shape that works.
    """
    theirs, named = _named(table, config, old, options)
    wishes = _wishes(table, config, old, options, named, theirs, spelled)
    near = {
        name: wish if wish.named or table[name].grows != "width" else _within(wish) for name, wish in wishes.items()
    }
    found, refusal = first(table, config, old, near, check)
    if found is not None:
        sizes, checked = found
        return Shape(sizes, _why(table, config, old, sizes, wishes)), checked
    loose = {name: _loose(name, old[name], named.get(name), wish, table[name]) for name, wish in wishes.items()}
    nearest, hopeless = first(table, config, old, loose, check)
    if hopeless is not None and not isinstance(hopeless, IllegalShapeError):
        refusal = hopeless
    raise _refusal(table, config, old, named, wishes, refusal, nearest and nearest[0])


def sizes_in_ratio(
    table: Mapping[str, Size], config: Any, old: Sizes, model: tuple[Sizes, Sizes], check: Callable[[Sizes], T]
) -> tuple[Shape, T]:
    """The shape that is to ``old`` as the second sizes of ``model`` are to its first: kept where
    they are kept, whole multiples where they are, and otherwise as near as the laws allow."""
    wishes = {}
    for name, size in _free(table, config).items():
        before, after = model[0][name], model[1][name]
        fallback: tuple[tuple[float, int | None], ...] = ((0.5, None),) if size.follows else ()
        if before == after:
            wishes[name] = Wish(((0.0, old[name]), *fallback), "kept")
            continue
        whole, exact = after % before == 0, old[name] * after % before == 0
        near = {value: cost for cost, value in _near(old[name], old[name] * after / before, size).options if value}
        near |= {old[name] * after // before: 0.0} if exact else {}
        priced = [
            (cost + (value == old[name]) * 2.0 + ((value % old[name] == 0) != whole), value)
            for value, cost in near.items()
        ]
        wishes[name] = Wish(tuple(sorted([*priced, *fallback], key=price)), "like the model")
    found, refusal = first(table, config, old, wishes, check)
    if found is None:
        raise refusal or IllegalGrowthError("no miniature has this shape. Please report the config and the options.")
    return Shape(found[0], {}), found[1]


def _why(
    table: Mapping[str, Size], config: Any, old: Sizes, sizes: Sizes, wishes: Mapping[str, Wish]
) -> dict[str, str]:
    why = {}
    for name, value in sizes.items():
        wish, follows = wishes.get(name), _implied(table, config, sizes, name)
        if wish is None:
            why[name] = "follows from the others"
        elif wish.options[0][1] is None and follows:
            why[name] = wish.why
        elif wish.wanted is not None and abs(wish.wanted - value) >= 0.01:
            why[name] = f"nearest to x{wish.wanted / old[name]:.4g} ({wish.wanted:.6g}) that fits"
        elif value == wish.options[0][1]:
            why[name] = wish.why
        elif value == old[name]:
            why[name] = "kept"
        else:
            why[name] = "follows from the others" if follows else "nearest that fits"
    return why


def _refusal(
    table: Mapping[str, Size],
    config: Any,
    old: Sizes,
    named: Mapping[str, int],
    wishes: Mapping[str, Wish],
    refusal: GrowthError | None,
    nearest: Mapping[str, int] | None,
) -> GrowthError:
    if refusal is not None and not isinstance(refusal, IllegalShapeError):
        return refusal
    asked = {name: wanted for name, wish in wishes.items() if (wanted := named.get(name, wish.wanted)) is not None}
    said = (
        f"{refusal}"
        if refusal is not None
        else f"no shape near {_listed(asked)} divides into heads as the model wants."
    )
    if nearest is None:
        return IllegalGrowthError(f"{said} None was found near it that works; name fewer sizes, or a width alone.")
    # With what was asked for and what would go along with that, so that these sizes, named, are the
    # whole shape.
    along = {
        name
        for name in wishes
        if table[name].grows != "never" and (table[name].follows is None or has_field(config, table[name]))
    }
    listed = {name: nearest[name] for name in wishes if nearest[name] != old[name] or name in asked or name in along}
    return IllegalGrowthError(
        f"{said} The nearest shape that works: {', '.join(f'{name} {value}' for name, value in listed.items())}."
    )
