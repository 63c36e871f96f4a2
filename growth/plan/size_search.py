"""The search for a shape: the cheapest combination of sizes in which everything divides and which
no law and no config refuses.

Combinations are visited from the cheapest on. What is refused says which sizes are to blame
(`growth.errors.IllegalShapeError`), and no combination with the same values of those is tried
again."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from growth.architectures.sizes import Size, Sizes, value_at
from growth.errors import GrowthError, IllegalShapeError, UnsupportedModelError

T = TypeVar("T")


TRIES, STEPS = 60, 20_000
"""Shapes that are tried against laws and config, and combinations looked at on the way to each."""


_COUPLED = ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim")
"""Sizes that have to divide each other, by the last part of their name. Of others the cheapest
value will do, unless it is to blame."""


@dataclass(frozen=True)
class Wish:
    """What one size should be: (cost, value) from the cheapest on, where no value stands for "as it
    follows from those before it"."""

    options: tuple[tuple[float, int | None], ...]
    why: str
    wanted: float | None = None
    named: bool = False


def price(option: tuple[float, int | None]) -> tuple[float, int]:
    return option[0], option[1] or 0


def first(
    table: Mapping[str, Size], config: Any, old: Sizes, wishes: Mapping[str, Wish], check: Callable[[Sizes], T]
) -> tuple[tuple[dict[str, int], T] | None, GrowthError | None]:
    """The nearest shape that passes the check, or the first refusal met; the last one, if no other
    size would help."""
    refusal: GrowthError | None = None
    blamed: set[frozenset[tuple[str, int]]] = set()
    for _ in range(TRIES):
        sizes = next(_shapes(table, config, old, wishes, blamed), None)
        if sizes is None:
            break
        try:
            return (sizes, check(sizes)), None
        except IllegalShapeError as error:
            refusal = refusal or error
            blamed.add(frozenset((name, sizes[name]) for name in error.blame or sizes))
        except GrowthError as error:
            return None, error
    return None, refusal


def _shapes(
    table: Mapping[str, Size],
    config: Any,
    old: Sizes,
    wishes: Mapping[str, Wish],
    blamed: Collection[frozenset[tuple[str, int]]],
) -> Iterator[dict[str, int]]:
    """The shapes whose parts divide, of which none shrinks and some grows, from the nearest on,
    without combinations that are to blame."""
    alone = {next(iter(culprits)) for culprits in blamed if len(culprits) == 1}
    options = {
        name: [option for option in wish.options if (name, option[1]) not in alone] for name, wish in wishes.items()
    }
    options = {
        name: some if name.rpartition(".")[2] in _COUPLED else _cheapest(some) for name, some in options.items()
    }
    if not all(options.values()):
        return
    names, following = (
        list(wishes),
        {name for name, size in table.items() if size.follows is not None and not has_field(config, size)},
    )
    heap = [(sum(options[name][0][0] for name in names), (0,) * len(names), 0)]
    for _ in range(STEPS):
        if not heap:
            return
        cost, ranks, moved = heapq.heappop(heap)
        sizes = _completed(
            table, config, {name: options[name][rank][1] for name, rank in zip(names, ranks, strict=True)}, following
        )
        grows = sizes is not None and sizes != old and all(sizes[name] >= n for name, n in old.items())
        if sizes is not None and grows and not any(culprits <= sizes.items() for culprits in blamed):
            yield sizes
        for i in range(
            moved, len(names)
        ):  # raising ranks from the left to the right only reaches every combination once
            some, rank = options[names[i]], ranks[i]
            if rank + 1 < len(some):
                heapq.heappush(
                    heap, (cost - some[rank][0] + some[rank + 1][0], (*ranks[:i], rank + 1, *ranks[i + 1 :]), i)
                )


def _cheapest(options: list[tuple[float, int | None]]) -> list[tuple[float, int | None]]:
    """The cheapest value, and what is cheaper kept_equal: to follow from other sizes, which are then to
    blame if that is no good."""
    return options[: 1 + next((rank for rank, (_, value) in enumerate(options) if value is not None), 0)]


def _completed(
    table: Mapping[str, Size], config: Any, picked: Mapping[str, int | None], following: Collection[str]
) -> dict[str, int] | None:
    """The picked sizes and those that follow from them, None where something does not divide.
    ``following``: those without a choice."""
    sizes: dict[str, int] = {}
    try:
        for name, size in table.items():
            value = picked.get(name)
            if value is None or name in following:
                followed = size.follows(config, sizes) if size.follows else None
                if followed is None or value not in (None, followed):
                    return None
                value = followed
            sizes[name] = value
    except UnsupportedModelError:
        return None
    return sizes


def has_field(config: Any, size: Size) -> bool:
    """Whether the config's class has a field for a size, so that it need not follow from others."""
    section, _, name = size.field.rpartition(".")
    return bool(name) and (
        value_at(config, size.field) is not None
        or name in (value_at(config, section) if section else config).to_dict()
    )
