"""What a miniature is to have more of, so that it stands for the extension of a real model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from transformers import PreTrainedModel

from growth.architectures.architecture import Architecture
from growth.architectures.sizes import Sizes
from growth.errors import IllegalGrowthError
from growth.extension.experts import expert_size, experts_of
from growth.extension.extension import Extension, Stack
from growth.extension.kv_heads import KV_HEADS, QUERIES
from growth.extension.placement import Insert
from growth.extension.request import EXPERT_SIZE, EXPERTS, Request
from growth.extension.stacks import layer_lists
from growth.hf.configs import Config

T = TypeVar("T")

MOST = 6
"""New layers of a miniature where what a layer is follows from its number in periods."""


def first_that_fits(
    extension: Extension | None,
    small: Config,
    architecture: Architecture,
    model_class: type[PreTrainedModel],
    planned: Callable[[Request], T],
) -> T:
    """What ``planned`` makes of the first request that it does not refuse.

    Args:
        extension: of the real model.
        small: the config of the miniature.
        architecture: the declaration at that config.
        model_class: the class of both.
        planned: raises IllegalGrowthError for what the miniature cannot have.
    """
    refusal: IllegalGrowthError | None = None
    for request in _requests(extension, small, architecture, model_class):
        try:
            return planned(request)
        except IllegalGrowthError as error:
            refusal = refusal or error
    raise refusal or IllegalGrowthError("nothing is asked for.")


def _requests(
    extension: Extension | None, small: Config, architecture: Architecture, model_class: type[PreTrainedModel]
) -> Iterator[Request]:
    if extension is None:
        yield Request()
        return
    base = Request(untie=extension.untied, silent=extension.silent, noise=extension.noise, seed=extension.seed)
    for name, (before, now) in extension.sizes.items():
        if name.rpartition(".")[2] == KV_HEADS:
            left = architecture.read_sizes(extension.new.parsed)[name.removesuffix(KV_HEADS) + QUERIES]
            sizes = architecture.read_sizes(small.parsed)
            base = replace(base, sizes={**base.sizes, name: _key_value_heads(name, sizes, now // before, left)})
    if EXPERTS in extension.sizes:
        base = replace(base, sizes={**base.sizes, **_experts(extension, small, architecture, model_class)})
    if not extension.stacks:
        yield base
        return
    lists = {one.name: one for one in layer_lists(small, architecture, model_class)}
    real = {stack.name: stack for stack in extension.stacks}
    after = {name: _places(stack, lists[name].count) for name, stack in real.items()}
    # One stack after the other takes its places; a request has one list of places for all of them.
    sizes = {lists[name].size: lists[name].count + len(places) for name, places in after.items()}
    if len({tuple(places) for places in after.values()}) == 1:
        yield replace(base, sizes={**base.sizes, **sizes}, insert=Insert("after", next(iter(after.values()))))
    yield from (
        replace(
            base,
            sizes={**base.sizes, **{lists[name].size: lists[name].count + more for name in real}},
            insert=Insert(way),
        )
        for more in range(1, MOST + 1)
        for way in ("even", "end")
    )


def queries_to_part(extension: Extension | None, extended: Sizes) -> int:
    """How many times as many queries are to share a key and value in a miniature, so that several
    still do where they do in the extended model.

    Args:
        extension: of the real model.
        extended: its sizes after that.
    """
    names = extension.sizes if extension is not None else ()
    prefixes = [name.removesuffix(KV_HEADS) for name in names if name.rpartition(".")[2] == KV_HEADS]
    return 2 if any(extended[prefix + QUERIES] > 1 for prefix in prefixes) else 1


def _key_value_heads(name: str, small: Sizes, copies: int, left: int) -> int:
    """How many key/value heads a miniature is to have: as many copies as the real model has, if
    its queries can be parted so; else another number, that leaves several queries to each, or one,
    as there.

    Args:
        name: of the size.
        small: the sizes of the miniature.
        copies: of each key/value head, in the real model.
        left: how many queries each serves there then.
    """
    queries = small[name.removesuffix(KV_HEADS) + QUERIES]
    ways = [way for way in range(2, queries + 1) if queries % way == 0]
    return small[name] * min(ways, key=lambda way: ((queries // way > 1) != (left > 1), way != copies), default=1)


def shared_out(extension: Extension | None) -> int:
    """In how many parts the copies of an expert of a miniature share out its features; 1 for none."""
    return 1 if extension is None else _copies(extension)[1]


def _copies(extension: Extension) -> tuple[int, int]:
    """(Copies of each expert of a miniature, parts in which they share out its features): those of
    the real model, or few where there are many."""
    before, now = extension.sizes.get(EXPERTS, (1, 1))
    larger, smaller = next(
        (pair for name, pair in extension.sizes.items() if name.endswith("intermediate_size")), (1, 1)
    )
    copies, parts = now // before, larger // smaller
    if copies <= MOST:
        return copies, parts
    return (2, 2) if parts == copies else (4, 2) if parts > 1 else (2, 1)


def _experts(
    extension: Extension, small: Config, architecture: Architecture, model_class: type[PreTrainedModel]
) -> dict[str, int]:
    """The numbers of experts that a miniature is to have, and their size."""
    copies, parts = _copies(extension)
    found = experts_of(small, architecture, model_class)
    if found is None:
        raise IllegalGrowthError("the miniature has no experts.")
    sizes = architecture.read_sizes(small.parsed)
    return {EXPERTS: copies * found.count, **({EXPERT_SIZE: sizes[expert_size(sizes)] // parts} if parts > 1 else {})}


def _places(stack: Stack, count: int) -> tuple[int, ...]:
    """Behind which of ``count`` layers new ones go, as they do among the real ones: before the
    first, between two, and behind the last."""
    added, kept = stack.added, stack.kept
    between = range(count - 1) if any(kept[0] < number < kept[-1] for number in added) else ()
    return (
        *((-1,) if any(number < kept[0] for number in added) else ()),
        *between,
        *((count - 1,) if any(number > kept[-1] for number in added) else ()),
    )
