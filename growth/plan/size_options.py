"""What each size may become: the named value, or the values near the wanted ratio with the cost of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from growth.architectures.sizes import Size, Sizes
from growth.errors import IllegalGrowthError, UnsupportedModelError
from growth.plan.options import KEEP, Options
from growth.plan.size_search import Wish, has_field, price

NEAR = 0.15
"""How far a number of features may be from the wanted one, relative to it, where nobody named
it."""


FEATURES, HEADS = 4.0, 1.0
"""Weights of the distance: features are what a ratio is about, heads go along."""


CHOICES = 24
"""Sizes that are tried on either side of the wanted one."""


def _free(table: Mapping[str, Size], config: Any) -> dict[str, Size]:
    """The sizes that do not merely follow from others, as key/value heads do where the config has
    no such field. (A head_dim that it does not hold can be chosen all the same: hidden_size goes
    along.)"""
    listed = {name: size for name, size in table.items() if size.field and size.grows != "follows"}
    return {
        name: size
        for name, size in listed.items()
        if size.follows is None or size.grows == "head-dim" or has_field(config, size)
    }


def _named(
    table: Mapping[str, Size], config: Any, old: Sizes, options: Options
) -> tuple[frozenset[str], dict[str, int]]:
    """The sizes that are the other model's, and size -> what the caller wants it to be; fields of
    the config stand for their size."""
    by_field = {size.field: name for name, size in table.items() if size.field}
    free, named = _free(table, config), dict[str, int]()
    theirs = {name: value for asked, value in options.like.items() if (name := by_field.get(asked, asked)) in free}
    for name, size in free.items():
        group = name[: name.rfind(".") + 1]
        if (
            size.grows == "head-dim"
            and not has_field(config, size)
            and {f"{group}hidden_size", f"{group}num_attention_heads"} <= theirs.keys()
        ):
            theirs.pop(name, None)  # follows from these two
    if options.like and not theirs:
        raise IllegalGrowthError(
            f"the other model says none of the sizes of a {config.model_type}: {', '.join(free)}. Name some of them."
        )
    for asked, wanted in options.sizes.items():
        name = by_field.get(asked, asked)
        if name not in free:
            raise IllegalGrowthError(
                f"{asked} is no size of a {config.model_type} that can be chosen"
                + (f"; it stays {old[name]} or follows from others" if name in old else "")
                + f". Choose among {', '.join(free)}."
            )
        value = old[name] if wanted == KEEP else int(wanted)
        if named.get(name, value) != value:
            raise IllegalGrowthError(f"{name} is named twice, as {named[name]} and as {value}. Name it once.")
        named[name] = value
    theirs = {name: value for name, value in theirs.items() if name not in named}
    for name, value in {**theirs, **named}.items():
        if value < old[name]:
            whose = ", its size in the other model" if name in theirs else ""
            raise IllegalGrowthError(
                f"cannot shrink {name} from {old[name]} to {value}{whose}: a smaller model computes less. "
                f"Name a size of at least {old[name]}."
            )
    named = {**theirs, **named}
    if options.width is None and all(value == old[name] for name, value in named.items()):
        raise IllegalGrowthError(
            f"{_listed(named)} is what the model has already, so nothing would grow. Name a larger size, or a width."
        )
    return frozenset(theirs), named


def _listed(sizes: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.6g}" for name, value in sizes.items())


def _wishes(
    table: Mapping[str, Size],
    config: Any,
    old: Sizes,
    options: Options,
    named: Mapping[str, int],
    theirs: frozenset[str],
    spelled: frozenset[str],
) -> dict[str, Wish]:
    wishes: dict[str, Wish] = {}
    for name, size in _free(table, config).items():
        group = name[: name.rfind(".") + 1]
        heads, kv_heads, head_dim = f"{group}num_attention_heads", f"{group}num_key_value_heads", f"{group}head_dim"
        ratio = _ratio(table, config, old, options, named, group)
        follows: tuple[tuple[float, int | None], ...] = ((0.5, None),) if size.follows else ()
        if name in named:
            source = "as the other model" if name in theirs else "named"
            wishes[name] = Wish(
                ((0.0, named[name]),), f"kept, {source}" if named[name] == old[name] else source, named=True
            )
        elif size.grows == "head-dim" and name not in spelled and {f"{group}hidden_size", heads} <= named.keys():
            wishes[name] = Wish(((0.0, None), (0.1, old[name])), "hidden_size / num_attention_heads")
        elif size.grows == "heads" and heads in named and name != heads:
            wishes[name] = _near(old[name], old[name] * named[heads] / old[heads], size, follows)
        elif name == heads and ratio == 1 and named.get(kv_heads, 0) > old[kv_heads]:
            wishes[name] = _near(old[name], old[name] * named[kv_heads] / old[kv_heads], size, follows)
        elif size.grows == "heads" and head_dim in named and named[head_dim] > old[head_dim]:
            wishes[name] = Wish(
                ((0.0, old[name]), *_near(old[name], old[name] * ratio, size).options[:CHOICES]),
                "kept: head_dim grows",
            )
        elif size.grows not in ("width", options.attention) or ratio == 1:
            why = (
                f"kept (attention {options.attention})"
                if size.grows in ("heads", "head-dim") and ratio != 1
                else "kept"
            )
            wishes[name] = Wish(((0.0, old[name]), *follows), why)
        elif size.follows and _implied(table, config, old, name):
            wish = _near(old[name], old[name] * ratio, size)
            wishes[name] = Wish(
                ((0.0, None), *((1 + cost, value) for cost, value in wish.options)), "as it follows", wish.wanted
            )
        else:
            wishes[name] = _near(old[name], old[name] * ratio, size, follows)
    return wishes


def _ratio(
    table: Mapping[str, Size], config: Any, old: Sizes, options: Options, named: Mapping[str, int], group: str
) -> float:
    """By how much features grow where nobody names them: the caller's width, else as hidden_size
    grows."""
    if options.width is not None:
        return options.width
    for hidden in (f"{group}hidden_size", "hidden_size"):
        if hidden in named:
            return named[hidden] / old[hidden]
    head_dim = table.get(f"{group}head_dim")
    if head_dim is not None and not has_field(config, head_dim):  # hidden_size = heads * head_dim
        grown = [f"{group}{part}" for part in ("num_attention_heads", "head_dim") if f"{group}{part}" in named]
        return math.prod(named[part] / old[part] for part in grown)
    return 1.0


def _implied(table: Mapping[str, Size], config: Any, sizes: Sizes, name: str) -> bool:
    """Whether a size is what it would be if the config did not say it."""
    follows = table[name].follows
    try:
        return follows is not None and follows(config, sizes) == sizes[name]
    except UnsupportedModelError:
        return False


def _near(n: int, wanted: float, size: Size, more: tuple[tuple[float, int | None], ...] = ()) -> Wish:
    """Sizes around the wanted one, in steps of the power of two (up to 64 and n/8) that divides n,
    and the whole multiples of n."""
    features = size.grows == "width"
    step = (
        min(n & -n, 64, 1 << max(n // 8, 1).bit_length() - 1)
        if features
        else 2 - n % 2
        if size.grows == "head-dim"
        else 1
    )
    centre = round(wanted / step) * step
    values = {centre + i * step for i in range(-CHOICES, CHOICES + 1)} | {
        k * n for k in range(1, math.ceil(wanted / n) + 2)
    }
    values |= {round(wanted)} if abs(wanted - round(wanted)) < 0.01 and (n % 2 or round(wanted) % 2 == 0) else set()
    weight = FEATURES if features else HEADS
    priced = [
        (weight * abs(math.log(value / wanted)) if abs(value - wanted) >= 0.01 else 0.0, value)
        for value in values
        if value >= n
    ]
    return Wish(tuple(sorted([*priced, *more], key=price)), "kept" if wanted == n else f"x{wanted / n:.4g}", wanted)


def _about(n: int, named: int, size: Size) -> Wish:
    """The named size and those around it; larger than before, if that is."""
    near = _near(n, named, size)
    options = {(cost, value) for cost, value in near.options if value != n or named == n}
    return Wish(tuple(sorted({(0.0, named), *options}, key=price)), near.why, near.wanted)


def _loose(name: str, n: int, named: int | None, wish: Wish, size: Size) -> Wish:
    """What a size may be in the shape that a refusal names."""
    if named is not None:
        return _about(n, named, size)
    if name.rpartition(".")[2] != "hidden_size":
        return wish
    if wish.wanted is None:  # kept, unless what is named takes it along
        return _about(n, n, size)
    return Wish(tuple(option for option in wish.options if option[1] != n) or wish.options, wish.why, wish.wanted)


def _within(wish: Wish) -> Wish:
    """Without the sizes that are too far off."""
    if wish.wanted is None:
        return wish
    near = tuple(
        (cost, value) for cost, value in wish.options if value is None or abs(math.log(value / wish.wanted)) <= NEAR
    )
    return Wish(near or wish.options[:1], wish.why, wish.wanted)
