"""Best-first search for the sizes to grow to.

Each size that can be chosen has a list of values with a cost each: how far the value is from the
wanted one (`growth.plan.size_rules`). A combination takes one value from every list, and costs
the sum. Combinations are visited from the cheapest on, and the first that works is the answer: all
divisions leave no remainder, no size shrinks, and neither a law of the architecture nor the config
class refuses it.

Example. A GPT-2 of hidden_size 96, in 6 heads of 16, is to grow by 1.25. Its values, with their
costs::

    hidden_size     120 (0)      128 (0.26)   112 (0.28)   ...
    heads             8 (0.06)     7 (0.07)     9 (0.18)     6 (0.22)    10 (0.29)    ...

    visited         120, 8       120, 7       120, 9       120, 6       120, 10      128, 8
    cost            0.06         0.07         0.18         0.22         0.29         0.32

The first five do not fit: hidden_size has to be heads * 16. (128, 8) does, and nothing refuses it.

A refusal says which sizes are to blame (`growth.errors.IllegalShapeError`). Had (128, 8) been
refused with the heads to blame, every combination with 8 heads would be left out from then on; with
both sizes to blame, only (128, 8)."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, TypeVar

from growth.architectures.sizes import Sizes
from growth.errors import GrowthError, IllegalShapeError
from growth.plan.model_sizes import ModelSizes

T = TypeVar("T")

MOST_CHECKED = 60
"""Combinations that are checked against laws and config, which takes milliseconds each."""

WIDE = 30_000
"""Coordinates of a space beyond which a check takes longer, in proportion; it then counts for so
many more, so that a request for a huge model is refused as quickly as any."""

MOST_VISITED = 20_000
"""Combinations looked at, which takes microseconds each."""

_COUPLED = ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim")
"""Sizes that have to divide each other, by the last part of their name: all their values are
combined. Any other size, such as intermediate_size, takes its cheapest value, unless that is to
blame for a refusal; then the next one."""

Blame = frozenset[tuple[str, int | None]]
"""(size, value) pairs that were refused together."""


class PricedSize(NamedTuple):
    """One value a size may take.

    Args:
        cost: distance from the wanted value; 0 is the best.
        value: the value; None to derive it from the sizes before it, as the config class does.
    """

    cost: float
    value: int | None


@dataclass(frozen=True)
class SizeOptions:
    """The values one size may take.

    Args:
        values: from the cheapest on.
        why: what the plan says if the first of them is taken.
        wanted: the value aimed at, which need not be whole; None where there is no such value.
        named: whether the caller named it, so that there is no other value.
    """

    values: tuple[PricedSize, ...]
    why: str
    wanted: float | None = None
    named: bool = False


def by_cost(priced: PricedSize) -> tuple[float, int]:
    """Sort key: by cost, the smaller value first."""
    return priced.cost, priced.value or 0


def first(
    model: ModelSizes, options: Mapping[str, SizeOptions], check: Callable[[Sizes], T]
) -> tuple[tuple[dict[str, int], T] | None, GrowthError | None]:
    """The cheapest combination that works.

    After a refusal the search goes on from there; from the cheapest combination again where one
    value alone is to blame, which changes what values a size has left.

    Args:
        model: the sizes before growth.
        options: the values of every choosable size.
        check: raises IllegalShapeError for sizes that are refused while others may do, another
            GrowthError where no sizes would help.

    Returns:
        (all sizes, what ``check`` returned) or None; and the refusal, if there is nothing else to
        return: the first one met, or the one that no other size would help.
    """
    refusal: GrowthError | None = None
    blamed: set[Blame] = set()
    fitting = _fitting(model, options, blamed)
    checked = 0.0
    while checked < MOST_CHECKED and (sizes := next(fitting, None)) is not None:
        checked += max(1.0, _widest(sizes) / WIDE)
        try:
            return (sizes, check(sizes)), None
        except IllegalShapeError as error:
            refusal = refusal or error
            blame = frozenset((name, sizes[name]) for name in error.blame or sizes)
            blamed.add(blame)
            if len(blame) == 1:
                fitting = _fitting(model, options, blamed)
        except GrowthError as error:
            return None, error
    return None, refusal


def _widest(sizes: Sizes) -> int:
    """About how many coordinates the widest space has: of a size, or of all heads together."""
    heads = (
        size * sizes.get(f"{name.removesuffix('num_attention_heads')}head_dim", 1)
        for name, size in sizes.items()
        if name.endswith("num_attention_heads")
    )
    return max([*sizes.values(), *heads])


def _fitting(
    model: ModelSizes, options: Mapping[str, SizeOptions], blamed: Collection[Blame]
) -> Iterator[dict[str, int]]:
    """The combinations whose sizes divide, from the cheapest on, without those that were refused,
    or have been by the time that they are asked for."""
    names = list(options)
    values = [_values_left(name, options[name], blamed) for name in names]
    for picked in islice(cheapest_first(values), MOST_VISITED):
        try:
            sizes = model.completed(dict(zip(names, picked, strict=True)))
        except IllegalShapeError:
            continue
        if not any(pairs <= sizes.items() for pairs in blamed):
            yield sizes


def _values_left(name: str, options: SizeOptions, blamed: Collection[Blame]) -> list[PricedSize]:
    """The values of one size that were not refused on their own."""
    left = [priced for priced in options.values if frozenset({(name, priced.value)}) not in blamed]
    return left if name.rpartition(".")[2] in _COUPLED else _cheapest(left)


def _cheapest(values: list[PricedSize]) -> list[PricedSize]:
    """Keep only the cheapest explicit value, plus "derive from other sizes" if that is cheaper. If
    the derived value is refused, the sizes it came from are blamed.

    Example:
        >>> [priced.value for priced in _cheapest([PricedSize(0, None), PricedSize(1, 64), PricedSize(2, 72)])]
        [None, 64]
        >>> [priced.value for priced in _cheapest([PricedSize(0, 64), PricedSize(0.5, None)])]
        [64]
    """
    explicit = [rank for rank, priced in enumerate(values) if priced.value is not None]
    return values[: explicit[0] + 1] if explicit else values[:1]


def cheapest_first(lists: Sequence[Sequence[PricedSize]]) -> Iterator[tuple[int | None, ...]]:
    """All combinations of one value from each list, from the cheapest on.

    A combination is kept as its ranks, one per list; (0, 0) takes the cheapest of two lists. A heap
    holds combinations that are next. Whenever one leaves it, those with one rank raised by one
    enter: they are no cheaper, so the heap's cheapest is always the cheapest of all. So that each
    combination enters once, a rank is raised only if none to its right was: (1, 1) comes from
    (1, 0) and not from (0, 1).

    Args:
        lists: each from its cheapest value on.

    Example:
        >>> widths = [PricedSize(0, 96), PricedSize(1, 100), PricedSize(4, 112)]
        >>> heads = [PricedSize(0, 6), PricedSize(2, 8), PricedSize(3, 12)]
        >>> list(cheapest_first([widths, heads]))[:5]
        [(96, 6), (100, 6), (96, 8), (96, 12), (100, 8)]
    """
    if not all(lists):
        return
    heap = [(sum(values[0].cost for values in lists), (0,) * len(lists), 0)]
    while heap:
        cost, ranks, last_raised = heapq.heappop(heap)
        yield tuple(values[rank].value for values, rank in zip(lists, ranks, strict=True))
        for i in range(last_raised, len(lists)):
            values, rank = lists[i], ranks[i]
            if rank + 1 < len(values):
                raised = (*ranks[:i], rank + 1, *ranks[i + 1 :])
                heapq.heappush(heap, (cost - values[rank].cost + values[rank + 1].cost, raised, i))
