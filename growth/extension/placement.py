"""Where new layers stand among the old ones."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from growth.errors import IllegalGrowthError, shown

WAYS = ("stack", "even", "end", "start", "after:LIST")


@dataclass(frozen=True)
class Insert:
    """Where new layers go.

    Args:
        way: ``stack``, ``even``, ``end``, ``start`` or ``after``. Under ``stack`` and ``end`` new layers stand
            behind the last one, as copies of all the old ones in their order (Du et al. 2024, arXiv 2405.15319,
            "G_stack"), or of the last one.
        after: with ``after``, the numbers of the layers that a new one follows, from 0; -1 for one
            that stands before the first.

    Example:
        >>> Insert.parse("after:0,3").behind(4, 6)
        [1, 0, 0, 1]
    """

    way: str = "stack"
    after: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: object) -> Insert:
        """Read ``stack``, ``even``, ``end``, ``start`` or ``after:0,3``; -1 stands for a place before the first.

        Raises:
            IllegalGrowthError: for anything else.
        """
        found = (
            re.fullmatch(r"(stack|even|end|start)|after:\s*((?:-1|\d+)(?:\s*,\s*(?:-1|\d+))*)", text.strip())
            if isinstance(text, str)
            else None
        )
        if found is None:
            raise IllegalGrowthError(
                f"insert must be one of {', '.join(WAYS)}, not {shown(text)}. Say 'after:0,3' for new layers behind "
                "the first and the fourth."
            )
        numbers = tuple(int(number) for number in (found[2] or "").split(",") if number.strip())
        return cls(found[1] or "after", numbers)

    @classmethod
    def at(cls, kept: Sequence[int], new: int) -> Insert:
        """The way to place new layers that leaves old ones at these numbers, of ``new`` in all.

        Example:
            >>> str(Insert.at([0, 3, 4], 5)), str(Insert.at([0, 1], 4)), str(Insert.at([2, 3], 4))
            ('after:0,0', 'end', 'start')
        """
        after = [sum(place < number for place in kept) - 1 for number in range(new) if number not in kept]
        way = {len(kept) - 1: "end", -1: "start"}.get(after[0], "after") if len({*after}) == 1 else "after"
        return cls(way, () if way != "after" else tuple(after))

    def __str__(self) -> str:
        return self.way if self.way != "after" else f"after:{','.join(map(str, self.after))}"

    def behind(self, old: int, new: int) -> list[int]:
        """How many new layers follow each old one, of ``old`` layers that become ``new``. Where they
        all stand before the first, that is `Insert.before`.

        Example:
            Two new layers among six, evenly; as many as there are, one behind each:

            >>> Insert("even").behind(6, 8), Insert("even").behind(3, 6)
            ([0, 1, 0, 0, 1, 0], [1, 1, 1])
        """
        more = new - old
        if self.way == "after":
            self._check(old, more)
            return [self.after.count(number) for number in range(old)]
        if self.way == "start":
            return [0] * old
        if self.way in ("end", "stack"):
            return [0] * (old - 1) + [more]
        upto = [(2 * number * more + old) // (2 * old) for number in range(old + 1)]
        return [after - before for before, after in itertools.pairwise(upto)]

    def before(self, old: int, new: int) -> int:
        """How many new layers stand before the first old one."""
        return new - old if self.way == "start" else self.after.count(-1)

    def _check(self, old: int, more: int) -> None:
        if beyond := [number for number in self.after if number >= old]:
            raise IllegalGrowthError(
                f"insert after:{beyond[0]} names a layer that the model does not have: its {old} layers are numbered "
                f"from 0 to {old - 1}. Name one of these."
            )
        if len(self.after) != more:
            raise IllegalGrowthError(
                f"insert {self} places {len(self.after)} new layers, but {more} are asked for. Name as many layers, "
                "one of them several times if several new ones are to follow it."
            )

    def copied(self, kept: Sequence[int], new: int) -> list[int]:
        """For each place, the old layer that is there, or that a new one is copied from if it can be: under ``stack``
        all in turn, else the one before it; before the first, that.

        Args:
            kept: the places of the old layers.
            new: how many layers there are.

        Example:
            >>> Insert("even").copied([1, 3], 5), Insert("stack").copied([0, 1], 5)
            ([0, 0, 0, 1, 1], [0, 1, 0, 1, 0])
        """
        if self.way == "stack":
            added = itertools.cycle(range(len(kept)))
            return [kept.index(place) if place in kept else next(added) for place in range(new)]
        origins, number = [], -1
        for place in range(new):
            number += number + 1 < len(kept) and kept[number + 1] == place
            origins.append(max(number, 0))
        return origins


def placed(insert: Insert, old: int, new: int) -> list[int]:
    """The places of the old layers among the new ones.

    Example:
        >>> placed(Insert("even"), 3, 6), placed(Insert("start"), 3, 5), placed(Insert("end"), 3, 5)
        ([0, 2, 4], [2, 3, 4], [0, 1, 2])
    """
    place, places = insert.before(old, new), []
    for behind in insert.behind(old, new):
        places.append(place)
        place += 1 + behind
    return places


def aligned(wanted: Sequence[int], old: Sequence[object], new: Sequence[object]) -> list[int] | None:
    """The places nearest to the wanted ones, in order, at which every old layer is of its own kind;
    None if there are none.

    Args:
        wanted: for each old layer, the place it should have.
        old: what kind each of the old layers is.
        new: what kind a layer is at each place.

    Example:
        Kinds alternate. One more layer of each kind fits in pairs only:

        >>> aligned([0, 2, 3, 4], "ABAB", "ABABAB")
        [0, 1, 2, 3]
    """
    # best[j]: the cost of placing the layers so far, the last of them before place j; choices[i][j]: where layer i
    # then is
    best: list[float] = [0.0] * (len(new) + 1)
    choices: list[list[int]] = []
    for number, kind in enumerate(old):
        costs, chosen = [float("inf")], [-1]
        for place, here in enumerate(new):
            cost = best[place] + abs(place - wanted[number]) if here == kind else float("inf")
            better = cost < costs[-1]
            costs.append(cost if better else costs[-1])
            chosen.append(place if better else chosen[-1])
        best = costs
        choices.append(chosen)
    if best[-1] == float("inf"):
        return None
    places, end = [], len(new)
    for chosen in reversed(choices):
        places.append(chosen[end])
        end = chosen[end]
    return places[::-1]
