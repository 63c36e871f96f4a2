"""What a miniature is to have more of, so that it stands for the extension of a real model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from transformers import PreTrainedModel

from growth.architectures.architecture import Architecture
from growth.errors import IllegalGrowthError
from growth.extension.extension import Extension, Stack
from growth.extension.placement import Insert
from growth.extension.request import Request
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
    base = Request() if extension is None else Request(untie=extension.untied, silent=extension.silent)
    if extension is None or not extension.stacks:
        yield base
        return
    lists = {one.name: one for one in layer_lists(small, architecture, model_class)}
    real = {stack.name: stack for stack in extension.stacks}
    after = {name: _places(stack, lists[name].count) for name, stack in real.items()}
    # One stack after the other takes its places; a request has one list of places for all of them.
    sizes = {lists[name].size: lists[name].count + len(places) for name, places in after.items()}
    if len({tuple(places) for places in after.values()}) == 1:
        yield replace(base, sizes=sizes, insert=Insert("after", next(iter(after.values()))))
    yield from (
        replace(base, sizes={lists[name].size: lists[name].count + more for name in real}, insert=Insert(way))
        for more in range(1, MOST + 1)
        for way in ("even", "end")
    )


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
