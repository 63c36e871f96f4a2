"""Why a size became what it is, in a few words: "named", "x1.5", or what kept it from the wanted
value, "nearest divisor of hidden_size 100 to x1.042 (6.25), at least 6"."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from growth.architectures.sizes import Sizes
from growth.plan.model_sizes import ModelSizes
from growth.plan.nearby_sizes import is_met, step
from growth.plan.size_search import SizeOptions


def size_reasons(model: ModelSizes, sizes: Sizes, options: Mapping[str, SizeOptions]) -> dict[str, str]:
    """Why each size is what it is.

    Args:
        model: the sizes before growth.
        sizes: those after it.
        options: the values each could take; sizes that are not among them follow from the others.
    """
    return {
        name: _reason(model, sizes, name, options[name]) if name in options else "follows from the others"
        for name in sizes
    }


def _reason(model: ModelSizes, sizes: Sizes, name: str, options: SizeOptions) -> str:
    value, best = sizes[name], options.values[0].value
    derived = model.is_as_derived(sizes, name)
    if best is None and derived:
        return options.why
    if options.wanted is not None and not is_met(value, options.wanted):
        return _nearest(model, sizes, name, options, options.wanted)
    if value == best:
        return options.why
    if options.wanted is not None:
        return _times(options.wanted, model.old[name])
    if value == model.old[name]:
        return "kept"
    return "follows from the others" if derived else "nearest that fits"


def _times(wanted: float, old: int) -> str:
    return f"x{wanted / old:.4g}"


Kind = tuple[str, Callable[[int], bool]]
"""A kind of number, in words and as a test."""


def _nearest(model: ModelSizes, sizes: Sizes, name: str, options: SizeOptions, wanted: float) -> str:
    """What kind of number the size is of which none is nearer to the wanted value."""
    value, old = sizes[name], model.old[name]
    aim = f"to {_times(wanted, old)} ({wanted:.6g})"
    may_stay = any(priced.value == old for priced in options.values)
    limit, least = (old, f", at least {old}") if may_stay else (old + 1, f", above {old}")
    for words, is_kind in _kinds(model, sizes, name):
        nearer = [other for other in _nearer(value, wanted) if is_kind(other)]
        if is_kind(value) and all(other < limit for other in nearer):
            return f"nearest {words} {aim}" + (least if nearer else "")
    return f"nearest {aim} that fits with the other sizes"


def _kinds(model: ModelSizes, sizes: Sizes, name: str) -> Iterator[Kind]:
    """From the most common to the rarest."""
    size, old = model.table[name], model.old[name]
    yield "whole number", lambda value: True
    by = step(old, size)
    yield f"multiple of {by}", lambda value: value % by == 0
    if size.grows == "head-dim":  # rotary pairs
        yield f"multiple of {old}", lambda value: value % old == 0
    if size.grows == "heads":
        yield from _kinds_of_heads(sizes, name)


def _kinds_of_heads(sizes: Sizes, name: str) -> Iterator[Kind]:
    """Heads divide hidden_size and are a multiple of the key/value heads."""
    prefix, part = name[: name.rfind(".") + 1], name.rpartition(".")[2]
    heads, kv_heads = f"{prefix}num_attention_heads", f"{prefix}num_key_value_heads"
    if part == "num_key_value_heads":
        yield f"divisor of {heads} {sizes[heads]}", lambda value: sizes[heads] % value == 0
    if part == "num_attention_heads":
        hidden = f"{prefix}hidden_size" if f"{prefix}hidden_size" in sizes else "hidden_size"
        divides, groups = f"divisor of {hidden} {sizes[hidden]}", f"multiple of {kv_heads} {sizes[kv_heads]}"
        yield divides, lambda value: sizes[hidden] % value == 0
        yield groups, lambda value: value % sizes[kv_heads] == 0
        yield (
            f"{divides} and {groups}",
            lambda value: sizes[hidden] % value == 0 and value % sizes[kv_heads] == 0,
        )


def _nearer(value: int, wanted: float) -> range:
    """The whole numbers whose ratio to the wanted one is closer to 1.

    Example:
        >>> list(_nearer(10, 6.25))
        [4, 5, 6, 7, 8, 9]
    """
    farther, closer = max(value / wanted, wanted / value), 1 - 1e-9
    return range(math.floor(wanted / farther / closer) + 1, math.ceil(wanted * farther * closer))
