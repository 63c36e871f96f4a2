"""The search visits every combination once, from the cheapest on, and leaves out what was refused."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config

from growth import plan_widening
from growth.architectures.sizes import Size, Sizes
from growth.errors import IllegalGrowthError, IllegalShapeError
from growth.plan import size_search
from growth.plan.model_sizes import ModelSizes
from growth.plan.size_search import PricedSize, SizeOptions, cheapest_first, first

Lists = list[list[PricedSize]]

COSTS = st.lists(st.integers(0, 6), min_size=1, max_size=4).map(sorted)
LISTS = st.lists(COSTS.map(lambda costs: [PricedSize(cost, value) for value, cost in enumerate(costs)]), max_size=4)


def check_order(lists: Lists) -> None:
    """All combinations, each once, none before a cheaper one."""
    visited = list(cheapest_first(lists))
    costs = [sum(values[value or 0].cost for values, value in zip(lists, picked, strict=True)) for picked in visited]
    assert costs == sorted(costs)
    assert sorted(visited) == sorted(itertools.product(*([p.value for p in values] for values in lists)))


@given(LISTS)
def test_every_combination_comes_once_and_the_cheapest_first(lists: Lists) -> None:
    check_order(lists)


def visited_twice(lists: Lists) -> Iterator[tuple[int | None, ...]]:
    """Any rank may be raised at any time."""
    ranks = itertools.product(*(range(len(values)) for values in lists))
    for each in sorted(ranks, key=sum):
        for _ in range(max(1, sum(rank > 0 for rank in each))):
            yield tuple(values[rank].value for values, rank in zip(lists, each, strict=True))


def in_order_of_rank(lists: Lists) -> Iterator[tuple[int | None, ...]]:
    yield from itertools.product(*([p.value for p in values] for values in lists))


@pytest.mark.parametrize("wrong", [visited_twice, in_order_of_rank])
def test_a_wrong_order_is_seen(wrong: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "cheapest_first", wrong)
    with pytest.raises(AssertionError):
        check_order([[PricedSize(0, 0), PricedSize(1, 1)], [PricedSize(0, 0), PricedSize(5, 1)]])


def test_the_example_of_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    visited: list[tuple[int | None, ...]] = []

    def seen(lists: Lists) -> Iterator[tuple[int | None, ...]]:
        for picked in cheapest_first(lists):
            visited.append((picked[0], picked[2]))  # hidden_size and heads
            yield picked

    monkeypatch.setattr(size_search, "cheapest_first", seen)
    plan = plan_widening(GPT2Config(n_embd=96, n_head=6, n_layer=1), width=1.25)
    assert visited == [(120, 8), (120, 7), (120, 9), (120, 6), (120, 10), (128, 8)]
    assert plan.new_sizes["hidden_size"] == 128 and plan.new_sizes["head_dim"] == 16


CONFIG = SimpleNamespace(hidden_size=96, num_attention_heads=6, intermediate_size=200)
MODEL = ModelSizes({name: Size(name) for name in vars(CONFIG)}, CONFIG, vars(CONFIG))
OPTIONS = {
    "hidden_size": SizeOptions((PricedSize(0, 120), PricedSize(0.3, 128)), "x1.25"),
    "num_attention_heads": SizeOptions((PricedSize(0, 8), PricedSize(0.1, 7), PricedSize(0.4, 10)), "x1.25"),
    "intermediate_size": SizeOptions((PricedSize(0, 250), PricedSize(0.1, 256)), "x1.25"),
}


def tried(refused: dict[tuple[int, int, int], set[str]]) -> tuple[list[tuple[int, ...]], bool]:
    """The sizes that are checked, and whether a combination was found in the end. ``refused``: those
    that are refused, and what is to blame."""
    seen: list[tuple[int, ...]] = []

    def check(sizes: Sizes) -> None:
        seen.append(tuple(sizes.values()))
        if seen[-1] in refused:
            raise IllegalShapeError("refused", refused[seen[-1]])  # type: ignore[index]

    found, refusal = first(MODEL, OPTIONS, check)
    assert (found is None) == (refusal is not None)
    return seen, found is not None


def test_what_is_to_blame_is_not_tried_again() -> None:
    assert tried({}) == ([(120, 8, 250)], True)
    heads: set[str] = {"num_attention_heads"}
    assert tried({(120, 8, 250): heads}) == ([(120, 8, 250), (120, 7, 250)], True)
    assert tried({(120, 8, 250): heads, (120, 7, 250): heads})[0][-1] == (120, 10, 250)
    both = heads | {"hidden_size"}  # these two together
    assert tried({(120, 8, 250): both, (120, 7, 250): both})[0] == [(120, 8, 250), (120, 7, 250), (128, 8, 250)]
    everything = {(120, heads, 250): {"hidden_size"} for heads in (8, 7, 10)}
    assert tried({**everything, (128, 8, 250): {"hidden_size"}}) == ([(120, 8, 250), (128, 8, 250)], False)


def test_a_size_that_divides_nothing_takes_its_next_value_only_when_it_is_to_blame() -> None:
    alone = {(120, 8, 250): {"intermediate_size"}}
    assert tried(alone) == ([(120, 8, 250), (120, 8, 256)], True)
    with_heads = {(120, 8, 250): {"intermediate_size", "num_attention_heads"}}
    assert tried(with_heads) == ([(120, 8, 250), (120, 7, 250)], True)


def test_what_no_other_size_would_help_ends_the_search() -> None:
    def check(sizes: Sizes) -> None:
        raise IllegalGrowthError("hopeless")

    found, refusal = first(MODEL, OPTIONS, check)
    assert found is None and str(refusal) == "hopeless"


def test_the_search_gives_up_after_so_many_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size_search, "MOST_CHECKED", 1)
    assert tried({(120, 8, 250): {"num_attention_heads"}}) == ([(120, 8, 250)], False)


def test_why_sizes_do_not_fit_together() -> None:
    assert MODEL.misfit({"hidden_size": 120, "num_attention_heads": 6, "intermediate_size": 200}) == ""
    assert MODEL.misfit(dict(MODEL.old)) == "nothing would grow."
    assert MODEL.misfit({**MODEL.old, "hidden_size": 90}) == "hidden_size would shrink from 96 to 90."
    assert MODEL.misfit({**MODEL.old, "hidden_size": None}) == "hidden_size does not follow from other sizes."
